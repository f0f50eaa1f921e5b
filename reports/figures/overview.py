"""The overview as data: lanes of the phases, and of what each device did and waited for."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from ...profiler.tables import COMPUTING_KINDS
from .. import palette, words
from ..material import Frames, Material, Window
from ..numbers.devices import ON_DEVICE, Device, least_known
from .bricks import clip, disjoint, thin
from .lanes import Lane, LaneGroup
from .overview_bricks import OVERVIEW_PALETTE, code_by, code_of, plain
from .packed import Packed, Rows, packed
from .samples import sampled_lane, scales

#: upper bounds on what is drawn, however large the run is
MAX_DEVICES = 8
#: streams of a device that have a lane, by the most devices for which that is so
MAX_STREAMS = {2: 4, 4: 2, MAX_DEVICES: 1}
BRICKS_OF_LANE = 4_000
ROWS_OF_PHASES = Rows(alone=6, rest=1, label="phases")
_MERGED = (
    "Neighbours too short to see are drawn together, sorted by colour: each covers the time it had."
)


def overview_lanes(material: Material, devices: tuple[Device, ...]) -> LaneGroup:
    """The phases, and each device with its stalls, its streams and its samples."""
    frames, window = material.frames, material.window
    phases = _phase_lanes(frames, window)
    lanes = [*phases.lanes]
    shown = devices[:MAX_DEVICES]
    streams = next(most for count, most in MAX_STREAMS.items() if len(shown) <= count)
    for device in shown:
        lanes += _device_lanes(device, material, streams)
    lanes += _call_lane(frames, window)
    left = len(devices) - MAX_DEVICES
    notes = (
        phases.note,
        scales(frames["gpu_samples"], devices),
        _MERGED if any((lane.bricks["merged"] > 1).any() for lane in lanes) else "",
        f"{left:,} more devices are not drawn." if left > 0 else "",
    )
    return LaneGroup(
        "overview",
        "Phases, devices and stalls",
        _explanation(devices),
        OVERVIEW_PALETTE,
        tuple(lanes),
        " ".join(filter(None, notes)),
    )


def _explanation(devices: tuple[Device, ...]) -> str:
    gap = {
        "cupti": "between a device’s kernels",
        "cuda_api": "between calls that submit to a device: what the device did is not known",
        "runner": "between the runner’s inferences, which stand for a device",
    }[least_known(devices)]
    return (
        f"A stall is a gap {gap}, in the colour of the cause that held most of it. "
        "Click one to walk from it to the chunks behind it."
    )


def _device_lanes(device: Device, material: Material, most: int) -> Iterator[Lane]:
    """What a device did and waited for; at most ``most`` streams are drawn by themselves."""
    frames, window = material.frames, material.window
    operations = frames["gpu_ops"].filter((pl.col("device") == device.device) & ON_DEVICE)
    operations = clip(operations, window.start_ns, window.end_ns)
    samples = frames["gpu_samples"].filter(pl.col("device") == device.device)
    if samples.height:
        yield sampled_lane(device, samples, window)
    computing = operations.filter(pl.col("kind").cast(pl.String).is_in(COMPUTING_KINDS))
    label = "stalls" if samples.height else device.label.replace("NVIDIA ", "")
    yield Lane(label, _stalls(device, material))
    streams = _streams(operations, most)
    if not streams and computing.height:
        yield Lane("inferences" if device.source == "runner" else "kernels", _merged(operations))
    for name, part in streams:
        yield Lane(name, _merged(part))


def _streams(operations: pl.DataFrame, most: int) -> list[tuple[str, pl.DataFrame]]:
    """The operations by stream, the busiest streams each by themselves, the others together."""
    counted = operations.drop_nulls("stream").group_by("stream").len("count")
    ranked = counted.sort("count", "stream", descending=[True, False])["stream"].to_list()
    shown = sorted(ranked[:most])
    found = [(f"stream {n}", operations.filter(pl.col("stream") == n)) for n in shown]
    rest = ranked[most:]
    if rest:
        others = operations.filter(pl.col("stream").is_in(rest))
        found.append((f"{words.plural(len(rest), 'other stream')}", others))
    return found


def _phase_lanes(frames: Frames, window: Window) -> Packed:
    phases = clip(frames["phases"], window.start_ns, window.end_ns).with_row_index("key")
    turn = pl.col("name").rank("dense").sub(1) % len(palette.PHASE_COLOURS)
    details = {"what": pl.col("name"), "caption": pl.col("name")}
    bricks = plain(phases, code_of("phase 0") + turn, details).drop("merged")
    return packed("phase", phases, bricks.with_columns(phases["key"]), ROWS_OF_PHASES)


def _merged(operations: pl.DataFrame) -> pl.DataFrame:
    """What a device did, neighbours that are too short to see merged."""
    kind = pl.col("kind").cast(pl.String)
    names = {each: name for each, (name, _) in palette.DEVICE_STYLES.items()}
    details = {
        "what": pl.col("name"),
        "moved_bytes": pl.col("bytes"),
        "memory of the host": pl.when("pageable").then(pl.lit("pageable, so not pinned")),
        "submitted by thread": pl.col("tid"),
    }
    return _short_merged(disjoint(operations), code_by(kind.replace_strict(names)), details)


def _short_merged(
    intervals: pl.DataFrame, code: pl.Expr, details: dict[str, pl.Expr]
) -> pl.DataFrame:
    """Bricks of which neighbours that are too short to see are merged; these have no details."""
    bricks = plain(intervals, code, details).drop("merged")
    merged, _ = thin(bricks, BRICKS_OF_LANE)
    alone = pl.col("merged") == 1
    return merged.with_columns(pl.when(alone).then(pl.col(name)).alias(name) for name in details)


def _stalls(device: Device, material: Material) -> pl.DataFrame:
    """The stalls of a device, in the colour of the cause that held most of each.

    Where several are drawn as one, ``stall`` is the longest with that colour.
    """
    window = material.window
    stalls = material.frames["stalls"].filter(pl.col("device") == device.device)
    clipped = clip(stalls, window.start_ns, window.end_ns)
    held = stall_holders(material.stall_causes)
    coloured = clipped.join(held, on="stall_id", how="left", maintain_order="left")
    code = code_by(pl.format("stall: {}", pl.col("held_by").fill_null("unknown")))
    details = {"device": pl.lit(device.identity), "stall": pl.col("stall_id")}
    bricks = plain(coloured, code, details).drop("merged", "because", "caption")
    merged, _ = thin(bricks, BRICKS_OF_LANE)
    texts = _texts(merged.filter(pl.col("merged") == 1)["stall"], material.stall_causes)
    return merged.join(texts, on="stall", how="left", maintain_order="left")


def stall_holders(causes: pl.DataFrame) -> pl.DataFrame:
    """What held each stall: stall_id, held_by.

    It is the largest cause of the family with the largest sum, as `palette.held_by` has it.
    ``causes``: stall_id, cause, ns.
    """
    order = {cause: place for place, cause in enumerate(palette.ORDER)}
    families = {cause: palette.FAMILIES.index(palette.STYLES[cause].family) for cause in order}
    name = pl.col("cause").cast(pl.String)
    return (
        causes.with_columns(
            name.alias("held_by"),
            family=name.replace_strict(families),
            place=name.replace_strict(order),
        )
        .with_columns(of_family=pl.col("ns").sum().over("stall_id", "family"))
        .sort("of_family", "family", "ns", "place", descending=[True, False, True, False])
        .unique("stall_id", keep="first", maintain_order=True)
        .select("stall_id", "held_by")
    )


def _texts(stalls: pl.Series, causes: pl.DataFrame) -> pl.DataFrame:
    """What is said of stalls: stall, because (the shares of their causes), caption."""
    spent: dict[int, dict[str, int]] = {}
    of_these = causes.filter(pl.col("stall_id").is_in(stalls.implode()))
    for stall_id, cause, ns in of_these.select("stall_id", "cause", "ns").iter_rows():
        spent.setdefault(stall_id, {})[cause] = ns
    rows = [
        (stall_id, words.shared(causes_ns), words.duration(sum(causes_ns.values())))
        for stall_id, causes_ns in spent.items()
    ]
    schema = {"stall": pl.Int32, "because": pl.String, "caption": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _call_lane(frames: Frames, window: Window) -> Iterator[Lane]:
    """The calls of the driver, where these are all that is known of the devices."""
    calls = frames["gpu_calls"].filter(pl.col("source").cast(pl.String) == "cuda_api")
    calls = clip(calls, window.start_ns, window.end_ns)
    if calls.height:
        details = {
            "what": pl.format("{} ({})", "function", pl.col("kind").cast(pl.String)),
            "because": pl.lit("a call of the driver, not time that the device was busy"),
            "moved_bytes": pl.col("bytes"),
            "submitted by thread": pl.col("tid"),
        }
        waits = pl.col("kind").cast(pl.String) == "synchronize"
        code = pl.when(waits).then(code_of("device")).otherwise(code_of("driver"))
        yield Lane("CUDA calls, not busy", _short_merged(disjoint(calls), code, details))
