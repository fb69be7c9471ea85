"""A run as a native Perfetto trace: who holds the pages as counters, milestones as instants, storm and calm as slices.

The encoder is our own: of protobuf's wire format a trace needs two of the types, varints and strings of bytes,
and the protobuf runtime with Perfetto's generated classes would be the heaviest dependency of a command that
needs no other. A test reads the bytes back with the published classes. Field numbers are those of
protos/perfetto/trace/perfetto_trace.proto; they are never reused there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidegate.report.simulate_words import told_run
from tidegate.report.words import printable
from tidegate.simulation import Run, Simulated

# Tracks by uuid; the holders' counters follow.
_ROOT, _PHASES, _MILESTONES, _RESERVE_OUT, _COMPLETED, _HOLDERS = 1, 2, 3, 4, 5, 16

# Perfetto wants one for packets that hold track events; all of ours come from one writer.
_SEQUENCE = 1
_INCREMENTAL_STATE_CLEARED = 1  # TracePacket.SequenceFlags, once on a sequence
_EXPLICIT = 3  # TrackDescriptor.ChildTracksOrdering: by sibling_order_rank
_UNIT_COUNT = 2  # CounterDescriptor.Unit
_PID = 1  # a group of tracks is a process to Perfetto; pid 0 would be the idle task
_SLICE_BEGIN, _SLICE_END, _INSTANT, _COUNTER = 1, 2, 3, 4  # TrackEvent.Type

Value = int | str | bytes


def perfetto_trace(result: Simulated | Run) -> bytes:
    """The trace of a run (of a result: the first run that earned the word), for ui.perfetto.dev and its tools.

    Timestamps are the run's virtual nanoseconds, from zero. Counters are pages, but for `completed`, which
    counts requests. A run without samples makes a trace without counter values.
    """
    run = told_run(result) if isinstance(result, Simulated) else result
    # Stable, so that at one moment the storm ends before the calm begins.
    events = sorted(_events(run), key=lambda event: event[0])
    packets = [*_descriptors(run), *(_event_packet(time_ns, event) for time_ns, event in events)]
    return b"".join(_field(1, packet) for packet in packets)  # Trace.packet


def _descriptors(run: Run) -> Iterator[bytes]:
    """TracePackets with a TrackDescriptor each, the parent first, in the order in which they are shown."""
    name = f"{run.case}, arm {run.arm}, seed {run.seed}: {run.word}"
    process = _message((1, _PID), (6, printable(name)))  # pid, process_name
    root = _message((1, _ROOT), (3, process), (11, _EXPLICIT))  # uuid, process, child_ordering
    flags = _INCREMENTAL_STATE_CLEARED
    yield _message((10, _SEQUENCE), (13, flags), (60, root))  # sequence id, sequence_flags, track_descriptor
    tracks = [(_PHASES, "storm and calm", ""), (_MILESTONES, "milestones", "")]
    tracks += [(_HOLDERS + at, holder, "pages") for at, holder in enumerate(run.holders)]
    tracks += [(_RESERVE_OUT, "reserve_out", "pages"), (_COMPLETED, "completed", "requests")]
    for rank, (uuid, track, unit) in enumerate(tracks):
        fields: list[tuple[int, Value]] = [(1, uuid), (2, printable(track)), (5, _ROOT), (12, rank)]
        if unit:
            fields.append((8, _message((3, _UNIT_COUNT), (6, unit))))  # counter: unit, unit_name
        yield _message((10, _SEQUENCE), (60, _message(*fields)))


def _events(run: Run) -> Iterator[tuple[int, bytes]]:
    """Virtual time and TrackEvent."""
    storm_ns = min(run.storm_ns, run.end_ns)
    for name, from_ns, to_ns in (("storm", 0, storm_ns), ("calm", storm_ns, run.end_ns)):
        yield from_ns, _message((9, _SLICE_BEGIN), (11, _PHASES), (23, name))  # type, track_uuid, name
        yield to_ns, _message((9, _SLICE_END), (11, _PHASES))
    for one in run.milestones:
        notes = _annotations({"text": one.text, **one.facts})
        yield one.time_ns, _message((9, _INSTANT), (11, _MILESTONES), (23, printable(one.id))) + notes
    for sample in run.samples:
        for at, pages in enumerate(sample.held):
            yield sample.time_ns, _counter(_HOLDERS + at, pages)
        yield sample.time_ns, _counter(_RESERVE_OUT, sample.reserve_out)
        yield sample.time_ns, _counter(_COMPLETED, sample.completed)


def _counter(track: int, value: int) -> bytes:
    return _message((9, _COUNTER), (11, track), (30, value))  # type, track_uuid, counter_value


def _annotations(facts: Mapping[str, int | str]) -> bytes:
    """DebugAnnotations of a TrackEvent: what is shown when it is clicked."""
    return b"".join(
        _field(
            4,
            _message((10, printable(name)), (6, printable(value)) if isinstance(value, str) else (4, value)),
        )
        for name, value in facts.items()
    )


def _event_packet(time_ns: int, event: bytes) -> bytes:
    return _message((8, time_ns), (10, _SEQUENCE), (11, event))  # timestamp, sequence id, track_event


# The wire format: protobuf.dev/programming-guides/encoding


def _message(*fields: tuple[int, Value]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: Value) -> bytes:
    """Numbers as varints (wire type 0), text and messages with their length (wire type 2)."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode(errors="replace") if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; an int64 below zero is its two's complement."""
    assert -(1 << 63) <= value < 1 << 64, value
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
