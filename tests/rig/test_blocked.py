"""SysRq-w taken apart: real looks at wedged guests, and what the kernels print differently."""

from __future__ import annotations

from pathlib import Path

from tidegate.rig.blocked import ROLES, WAITS, in_reclaim, parse, same_wait

BUNDLES = Path(__file__).parent.parent / "recorded" / "bundles"
VIRTIO = (BUNDLES / "virtio-d1" / "blocked-2.txt").read_text()
STOPPED = (BUNDLES / "server-stopped" / "blocked-2.txt").read_text()


def test_the_refill_worker_of_a_real_wedge() -> None:
    (worker,) = (task for task in parse(VIRTIO) if task.role == "refill_work")
    assert (worker.comm, worker.wait) == ("kworker/0:2", "bio_alloc_bioset")
    assert in_reclaim(worker)
    order = [
        worker.stack.index(name) for name in ("mempool_alloc", "swap_writepage", "shrink_node", "refill_work")
    ]
    assert order == sorted(order)


def test_each_task_and_frame_knows_its_line() -> None:
    lines = VIRTIO.splitlines()
    tasks = parse(VIRTIO)
    assert len(tasks) == sum("task:" in line for line in lines)
    for task in tasks:
        assert f"task:{task.comm}" in lines[task.line - 1]
        for function, line in zip(task.stack, task.frame_lines, strict=True):
            assert f" {function}" in lines[line - 1]
        assert task.line_of("no_such_function") == task.line


def test_kswapd_and_users_of_a_stopped_server() -> None:
    found = {(task.role, task.wait) for task in parse(STOPPED)}
    assert ("balance_pgdat", "bio_alloc_bioset") in found
    assert {role for role, _ in found} <= {*ROLES, ""}
    assert {wait for _, wait in found} <= {*WAITS, ""}


def task_text(*frames: str, name: str = "kworker/0:1", pid: int = 10) -> str:
    head = f"[   44.801037] task:{name:15} state:D stack:0     pid:{pid}    ppid:2      flags:0x00004000\n"
    return head + "".join(f"[   44.801500]  {frame}+0x4ea/0xbe0\n" for frame in frames)


def test_guesses_of_the_unwinder_and_registers_are_no_frames() -> None:
    text = (
        task_text("schedule")
        + "[   44.8]  ? kthread+0x10/0x10\n[   44.8] RIP: 0033:0x404c68\n[   44.8]  </TASK>\n"
    )
    assert parse(text)[0].stack == ("schedule",)


def test_names_are_the_same_before_and_after_6_10() -> None:
    old = task_text("mempool_alloc", "bio_alloc_bioset", "__alloc_pages_slowpath.constprop.0")
    new = task_text("mempool_alloc_noprof", "bio_alloc_bioset", "__alloc_pages_slowpath.isra.0")
    assert parse(old) == parse(new)


def test_what_is_waited_for_is_the_innermost() -> None:
    sending = task_text(
        "sk_stream_wait_memory", "tcp_sendmsg_locked", "sock_xmit", "nbd_handle_cmd", "nbd_queue_rq"
    )
    queueing = task_text("__mutex_lock", "nbd_queue_rq", "blk_mq_flush_plug_list", "shrink_node")
    pool = task_text("mempool_alloc", "mempool_alloc_slab", "sg_pool_alloc")
    assert [parse(text)[0].wait for text in (sending, queueing, pool)] == [
        "sk_stream_wait_memory",
        "nbd_queue_rq",
        "mempool_alloc",
    ]
    assert parse(task_text("schedule"))[0].wait == ""


def test_no_task_is_no_wait() -> None:
    assert parse("[    1.0] sysrq: Show Blocked State\n") == ()
    assert not same_wait("", "")


def test_the_same_circle_apart_in_time() -> None:
    circle = task_text("mempool_alloc", "bio_alloc_bioset", "shrink_node")
    later = circle.replace("44.80", "52.91")
    bystander = task_text("schedule", "worker_thread", pid=77)
    assert same_wait(circle, later + bystander)
    assert same_wait(circle + bystander, later), "who does not reclaim may come and go"
    assert not same_wait(circle, later.replace("bio_alloc_bioset", "blk_mq_get_tag")), "it moved"
    assert not same_wait(circle, bystander), "it left"
    assert not same_wait(bystander, bystander), "nobody reclaims"
