"""How leaves are reached over the network: one file a transport, each asked in turn.

Each module answers `of_device(scene, device)` or `of_mount(scene, mount)` with a `Reach`, or None when the leaf is
not its own.
"""

from __future__ import annotations
