"""No secret enters a record."""

from __future__ import annotations

import json

import pytest

from tidegate.host import wanted
from tidegate.host.record import covers
from tidegate.host.secrets import command_words, lines_of, without_secrets

SECRET = "hunter2"

TEXTS = {
    "proc/self/mountinfo": f"29 1 0:41 / /s rw - cifs //s/x rw,username=u,password={SECRET},addr=10.0.0.1\n",
    "proc/self/mounts": f"davfs https://u:{SECRET}@host/ /m fuse rw,pass={SECRET} 0 0\n",
    "etc/fstab": f"# root's is {SECRET}\n//s/x /s cifs user=u,password={SECRET},_netdev 0 0\n",
    "etc/exports": f"/srv *(rw) \n  # {SECRET}\n",
    "proc/cmdline": f"root=/dev/vda1 netroot=iscsi:u:{SECRET}@10.0.0.1::3260:1:iqn.x\n",
    "run/systemd/generator/s.mount": f"What=//s/x\nOptions=rw,passwd={SECRET},_netdev\n",
    "proc/7/cmdline": f"nbdkit\0--swap\0password={SECRET}\0",
    "sys/block/loop0/loop/backing_file": f"//u:{SECRET}@s/x\n",
}


@pytest.mark.parametrize("path", sorted(TEXTS))
def test_secrets_in_texts_are_hidden_and_the_rest_stays(path: str) -> None:
    clean = without_secrets(path, TEXTS[path].encode()).decode()
    assert SECRET not in clean
    for word in ("addr=10.0.0.1", "_netdev", "10.0.0.1::3260", "--swap", "username=u", "/srv *(rw)"):
        assert (word in clean) == (word in TEXTS[path])


def test_the_words_would_be_seen_elsewhere() -> None:
    assert all(without_secrets("proc/other", text.encode()) == text.encode() for text in TEXTS.values())


def test_addresses_of_the_kernel_are_hidden() -> None:
    text = b"nbd 65536 1 - Live 0xffffffffc0a3d000\nx 1 2 nbd,y, Live 0xffffffffc0b3d000 (OE)\n"
    assert without_secrets("proc/modules", text) == b"nbd 65536 1 - Live 0x0\nx 1 2 nbd,y, Live 0x0 (OE)\n"


def test_addresses_of_a_process_are_hidden() -> None:
    # The 52 fields of proc_pid_stat(5), each its own number; startcode is the 26th.
    line = "7 (a) b) S " + " ".join(str(field) for field in range(4, 53)) + "\n"
    words = without_secrets("proc/7/stat", line.encode()).decode().rpartition(") ")[2].split()
    shown = dict(enumerate(words, 3))
    assert {number for number, word in shown.items() if word == "0"} == {
        *range(26, 31), 35, *range(45, 52),
    }  # fmt: skip
    assert shown[9] == "9"  # flags


@pytest.mark.parametrize(
    "name",
    [
        "sys/class/iscsi_session/session1/password",
        "sys/class/iscsi_session/session1/password_in",
        "sys/class/iscsi_session/session1/username",
        "sys/class/nvme/nvme0/dhchap_secret",
        "sys/class/nvme/nvme0/dhchap_ctrl_secret",
        "sys/class/nvme/nvme0/tls_key",
        "sys/bus/rbd/devices/0/config_info",
        "sys/kernel/config/nvmet/hosts/nqn.x/dhchap_key",
        "sys/kernel/config/target/iscsi/iqn.x/tpgt_1/auth/password",
        "proc/7/environ",
        "proc/7/maps",
        "proc/sys/net/ipv4/tcp_fastopen_key",
        "proc/net/stat/x",
        "etc/ceph/ceph.client.admin.keyring",
        "etc/iscsi/initiatorname.iscsi",
        "etc/shadow",
    ],
)
def test_files_of_secrets_are_not_looked_for(name: str) -> None:
    assert not covers(wanted.paths(netlink=False), name)


def test_the_neighbours_of_secrets_are_looked_for() -> None:
    for name in ("sys/class/iscsi_session/session1/targetname", "sys/class/nvme/nvme0/address"):
        assert covers(wanted.paths(), name)


def part(path: str) -> tuple[str, ...]:
    return next(one.keys for one in wanted.IN_PART if one.path == path)


def test_iscsi_settings_are_kept_without_chap() -> None:
    text = (
        "# comment\nnode.session.timeo.replacement_timeout = 120\nnode.session.auth.password = hunter2\n"
        "node.session.auth.username = u\n  node.startup = automatic\n"
    )
    for path in ("etc/iscsi/iscsid.conf", "etc/iscsi/nodes/*/*/*"):
        assert lines_of(text, part(path)) == (
            "node.session.timeo.replacement_timeout = 120\n  node.startup = automatic\n"
        )


def test_drbd_is_kept_without_its_secret() -> None:
    text = 'resource r0 {\n  net { shared-secret "hunter2"; }\n net {\n shared-secret "hunter2";\n  on a {\n'
    text += "    address 10.0.0.1:7789;\n"
    assert SECRET not in lines_of(text, part("etc/drbd.d/*"))
    assert "    address 10.0.0.1:7789;\n" in lines_of(text, part("etc/drbd.d/*"))


KUBELET = {"kind": "KubeletConfiguration", "evictionHard": {"memory.available": "100Mi"}, "token": SECRET}


def test_kubelet_as_yaml_and_as_json() -> None:
    yaml = "kind: KubeletConfiguration\ntoken: hunter2\nevictionHard:\n  memory.available: 100Mi\nstaticPodURL: u\n"
    keys = part("var/lib/kubelet/config.yaml")
    assert lines_of(yaml, keys) == "kind: KubeletConfiguration\nevictionHard:\n  memory.available: 100Mi\n"
    kept = json.loads(lines_of(json.dumps(KUBELET), keys))
    assert kept == {name: value for name, value in KUBELET.items() if name != "token"}
    assert lines_of("{broken", keys) == ""


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (
            "/sbin/nbd-client -N hunter2 -swap -C 2 -certfile hunter2 10.0.0.1 10809 /dev/nbd0",
            "nbd-client -swap -C 2 10.0.0.1 10809 /dev/nbd0",
        ),
        ("nbd-client --timeout=30 -unix /run/hunter2 /dev/nbd0", "nbd-client --timeout 30 /dev/nbd0"),
        ("nbdkit --swap -p 10809 curl url=http://u:hunter2@h password=hunter2", "nbdkit --swap -p 10809"),
        ("qemu-nbd -c /dev/nbd0 --tls-creds hunter2 /srv/hunter2.img", "qemu-nbd -c /dev/nbd0"),
        ("kubelet --eviction-hard=memory.available<5% --token=hunter2", "kubelet --eviction-hard memory.available<5%"),
        ("sshfs u:hunter2@host: /m", ""),
        ("nbd-client", "nbd-client"),
    ],
)  # fmt: skip
def test_of_a_command_line_only_known_options_are_kept(line: str, kept: str) -> None:
    name = line.split(maxsplit=1)[0].rsplit("/", 1)[-1]
    words = command_words(name, "\0".join(line.split()).encode() + b"\0").split(b"\0")
    assert " ".join(word.decode() for word in words if word) == kept
