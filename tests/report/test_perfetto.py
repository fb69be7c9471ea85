"""The trace, read back with the classes that Perfetto publishes: they know the format, our encoder is ours."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.report import simulated

from tidegate.report.perfetto import _field, _varint, perfetto_trace
from tidegate.simulation import Run, Simulated

SLICE_BEGIN, SLICE_END, INSTANT, COUNTER = 1, 2, 3, 4  # TrackEvent.Type


def read(result: Simulated | Run) -> Any:
    published = pytest.importorskip(
        "perfetto.protos.perfetto.trace.perfetto_trace_pb2",
        reason="Perfetto's published classes are not installed (package perfetto)",
    )
    trace = published.Trace()
    trace.ParseFromString(perfetto_trace(result))
    return trace


def unknown_fields(message: Any) -> list[str]:
    """Every field that the published format does not have, wherever it is nested."""
    protobuf = pytest.importorskip("google.protobuf.unknown_fields", reason="protobuf is not installed")
    name = message.DESCRIPTOR.full_name
    found = [f"{name}.{one.field_number}" for one in protobuf.UnknownFieldSet(message)]
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
                found += unknown_fields(inner)
    return found


def tracks(trace: Any) -> dict[int, Any]:
    return {
        packet.track_descriptor.uuid: packet.track_descriptor
        for packet in trace.packet
        if packet.HasField("track_descriptor")
    }


def events(trace: Any) -> list[tuple[int, Any]]:
    return [
        (packet.timestamp, packet.track_event) for packet in trace.packet if packet.HasField("track_event")
    ]


SAMPLES = pytest.mark.parametrize("sample", simulated.EVERY)


@SAMPLES
def test_the_trace_holds_nothing_that_the_format_does_not_have(sample: Any) -> None:
    trace = read(sample())
    assert trace.packet
    assert unknown_fields(trace) == []
    assert trace.IsInitialized()


def test_an_unknown_field_would_be_seen() -> None:
    published = pytest.importorskip(
        "perfetto.protos.perfetto.trace.perfetto_trace_pb2",
        reason="Perfetto's published classes are not installed (package perfetto)",
    )
    trace = published.Trace()
    trace.ParseFromString(_field(1, _field(60, _field(4095, 1))))
    assert unknown_fields(trace) == ["perfetto.protos.TrackDescriptor.4095"]


@SAMPLES
def test_time_never_goes_back_and_every_track_is_known_before_it_is_used(sample: Any) -> None:
    trace = read(sample())
    times = [time_ns for time_ns, _ in events(trace)]
    assert times == sorted(times)
    known: set[int] = set()
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        if packet.HasField("track_descriptor"):
            descriptor = packet.track_descriptor
            assert descriptor.uuid not in known
            assert not descriptor.HasField("parent_uuid") or descriptor.parent_uuid in known
            known.add(descriptor.uuid)
        else:
            assert packet.track_event.track_uuid in known
    assert 0 not in known
    # SEQ_INCREMENTAL_STATE_CLEARED, on the first packet of the sequence.
    assert [packet.sequence_flags for packet in trace.packet][:2] == [1, 0]


def test_counters_are_the_samples() -> None:
    result = simulated.stuck()
    run = result.runs[1]
    trace = read(result)
    values: dict[str, list[tuple[int, int]]] = defaultdict(list)
    by_uuid = tracks(trace)
    for time_ns, event in events(trace):
        if event.type == COUNTER:
            values[by_uuid[event.track_uuid].name].append((time_ns, event.counter_value))
    expected = {
        holder: [(one.time_ns, one.held[at]) for one in run.samples] for at, holder in enumerate(run.holders)
    }
    expected["reserve_out"] = [(one.time_ns, one.reserve_out) for one in run.samples]
    expected["completed"] = [(one.time_ns, one.completed) for one in run.samples]
    assert values == expected
    assert len(run.samples) > 300
    counters = [one for one in by_uuid.values() if one.HasField("counter")]
    assert {one.name: one.counter.unit_name for one in counters} == {
        name: "requests" if name == "completed" else "pages" for name in expected
    }


def test_milestones_are_instants_with_their_numbers() -> None:
    run = simulated.stuck_run()
    trace = read(run)
    by_uuid = tracks(trace)
    instants = [(time_ns, event) for time_ns, event in events(trace) if event.type == INSTANT]
    assert {by_uuid[event.track_uuid].name for _, event in instants} == {"milestones"}
    told = [
        (
            time_ns,
            event.name,
            {one.name: one.string_value or one.int_value for one in event.debug_annotations},
        )
        for time_ns, event in instants
    ]
    assert told == [(one.time_ns, one.id, {"text": one.text, **one.facts}) for one in run.milestones]


@pytest.mark.parametrize("sample", [*simulated.ALL, simulated.hostile])
def test_storm_and_calm_follow_each_other(sample: Any) -> None:
    trace = read(sample())
    run = next(one for one in sample().runs if one.samples)
    found = [
        (time_ns, event.type, event.name)
        for time_ns, event in events(trace)
        if event.type in {SLICE_BEGIN, SLICE_END}
    ]
    assert found == [
        (0, SLICE_BEGIN, "storm"),
        (run.storm_ns, SLICE_END, ""),
        (run.storm_ns, SLICE_BEGIN, "calm"),
        (run.end_ns, SLICE_END, ""),
    ]


def test_tracks_stand_in_the_order_of_the_holders_under_one_head() -> None:
    run = simulated.stuck_run()
    head, *others = tracks(read(run)).values()
    assert head.process.process_name == "swap-over-nbd, arm bare, seed 7: STUCK"
    assert head.child_ordering == 3  # EXPLICIT
    assert {one.parent_uuid for one in others} == {head.uuid}
    assert [one.name for one in others] == [
        "storm and calm",
        "milestones",
        *run.holders,
        "reserve_out",
        "completed",
    ]
    assert all(later.sibling_order_rank > one.sibling_order_rank for one, later in pairwise(others))


def test_a_result_is_traced_by_the_run_that_is_told() -> None:
    result = simulated.stuck()
    assert perfetto_trace(result) == perfetto_trace(result.runs[1]) == perfetto_trace(simulated.stuck_run())


def test_names_from_a_case_are_made_visible() -> None:
    trace = read(simulated.hostile())
    names = [one.name for one in tracks(trace).values()]
    assert all(name.isprintable() for name in names)
    assert any("\\x1b[31m" in name for name in names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),  # the example of the encoding's own guide
        ((1 << 64) - 1, "ffffffffffffffffff01"),
        (-1, "ffffffffffffffffff01"),
        (-2, "feffffffffffffffff01"),
    ],
)
def test_varints(value: int, expected: str) -> None:
    assert _varint(value).hex() == expected


def test_fields() -> None:
    assert _field(1, 150).hex() == "089601"  # the same
    assert _field(2, "testing").hex() == "120774657374696e67"
    assert _field(60, b"").hex() == "e20300"


def test_numbers_below_zero_come_back() -> None:
    run = simulated.seen_run()
    moment = replace(run.milestones[0], facts={"margin_pages": -3})
    trace = read(replace(run, milestones=(moment,)))
    notes = [event.debug_annotations for _, event in events(trace) if event.type == INSTANT]
    assert {one.name: one.int_value for one in notes[0]}["margin_pages"] == -3
