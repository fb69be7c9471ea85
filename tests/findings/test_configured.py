from __future__ import annotations

from dataclasses import replace

import pytest
from tests.findings import hosts
from tests.findings.cases import with_text

from tidegate.findings.configured import KUBELET_EVICTION, SHUTDOWN_ORDER, eviction_thresholds, threshold_kib
from tidegate.findings.rule import judge_rule
from tidegate.host.facts import Host, Transport, UserKind
from tidegate.result import ChainLink, State

YAML = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard:
  imagefs.available: "15%"
  memory.available: "100Mi"
evictionSoft: {memory.available: 5%, nodefs.available: 10%}
evictionMinimumReclaim:
  memory.available: "1Mi"
"""
JSON = """{
  "kind": "KubeletConfiguration",
  "evictionHard": {
    "memory.available": "500M"
  },
  "evictionMinimumReclaim": {
    "memory.available": "1Mi"
  }
}"""


def test_thresholds_of_both_sections_and_no_other() -> None:
    assert list(eviction_thresholds(YAML)) == ['"100Mi"', "5%"]
    assert list(eviction_thresholds(JSON)) == ['"500M"']
    assert list(eviction_thresholds("garbage: [")) == []


@pytest.mark.parametrize(
    ("written", "kib"),
    [
        ('"100Mi"', 102_400),
        ("5%", 50_000),
        ("500M", 488_281),
        ("1Gi # why", 1_048_576),
        ("'2Ki',", 2),
        ("104857600", 102_400),
        ("lots", None),
        ("1.2.3Mi", None),
        ("", None),
    ],
)
def test_threshold_kib(written: str, kib: int | None) -> None:
    assert threshold_kib(written, 1_000_000) == kib


def test_kubelet_without_a_threshold_has_its_default() -> None:
    config = "kind: KubeletConfiguration\n"
    host = with_text("var/lib/kubelet/config.yaml", config)
    assert judge_rule(KUBELET_EVICTION, host, hosts.reserve()).state is State.ABSENT
    large = replace(host, memory=replace(hosts.MEMORY, min_free_kib=200_000))
    assert judge_rule(KUBELET_EVICTION, large, hosts.reserve()).state is State.APPLIES


def test_a_threshold_that_cannot_be_read_is_unknown() -> None:
    config = "kind: KubeletConfiguration\nevictionHard:\n  memory.available: many\n"
    host = with_text("var/lib/kubelet/config.yaml", config)
    assert judge_rule(KUBELET_EVICTION, host, hosts.reserve()).state is State.UNKNOWN


def _order(host: Host) -> State:
    return judge_rule(SHUTDOWN_ORDER, host, hosts.reserve()).state


def test_shutdown_order() -> None:
    unit = "[Swap]\nWhat=/dev/nbd0\n"
    assert _order(hosts.HOST) is State.UNKNOWN
    assert (
        _order(with_text(("etc/fstab"), ("/dev/nbd0 none swap sw,x-systemd.after=nbd@nbd0.service 0 0")))
        is State.ABSENT
    )
    assert _order(with_text("etc/fstab", "#/dev/nbd0 none swap sw 0 0")) is State.UNKNOWN
    assert _order(with_text("etc/fstab", "broken")) is State.UNKNOWN
    assert _order(with_text("etc/systemd/system/dev-nbd0.swap", unit)) is State.APPLIES
    ordered = "[Unit]\nAfter=network-online.target\n" + unit
    assert _order(with_text("etc/systemd/system/dev-nbd0.swap", ordered)) is State.ABSENT


def test_a_network_file_system_needs_no_word_in_fstab() -> None:
    host = with_text("etc/fstab", "server:/export /srv nfs4 rw 0 0", hosts.with_user(hosts.MOUNT))
    assert _order(host) is State.ABSENT


def test_a_swap_file_is_ordered_by_its_mount() -> None:
    user = replace(
        hosts.SWAP,
        kind=UserKind.SWAPFILE,
        transport=Transport.NFS,
        chain=(ChainLink(kind="swapfile", name="/srv/swap"),),
    )
    assert _order(with_text("etc/fstab", "/srv/swap none swap sw 0 0", hosts.with_user(user))) is State.ABSENT
