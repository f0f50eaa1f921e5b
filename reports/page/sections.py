"""The page's text: small pieces of HTML, every foreign string through ``as_html``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .. import palette, words
from ..escape import as_html, visible
from ..figures.lanes import LaneGroup, Palette
from ..figures.waterfall import DOWNLOAD_PARTS
from ..findings.finding import Finding
from ..numbers.fetching import Chunk
from ..numbers.log import SERIES, Imported
from ..numbers.stalls import Stall
from ..numbers.statistics import Statistics
from ..words import duration, moment, percent, plural, size

_PART_COLOURS = {
    "before_request": "fetch_queue", "first_byte": "first_byte", "transfer": "transfer",
    "commit": "cache_write",
}  # fmt: skip
_PART_NAMES = {
    "before_request": "before the request", "first_byte": "to the first byte",
    "transfer": "transfer", "commit": "unpack and write to cache",
}  # fmt: skip


def facts(s: Statistics) -> str:
    """Return the header's line of facts."""
    if s.imported is not None:
        return _facts_of_log(s, s.imported)
    ended = _ending(s)
    parts = [
        "" if s.started_utc_ns is None else moment(s.started_utc_ns),
        f"<b>{duration(s.duration_ns)}</b>",
        ended,
        f"Linux {as_html(s.kernel, 60)}",
        *(_mount(mount) for mount in s.mounts[:3]),
        _losses(s),
    ]
    return "".join(f"<span>{part}</span>" for part in parts if part)


def _facts_of_log(s: Statistics, imported: Imported) -> str:
    parts = [
        "" if s.started_utc_ns is None else moment(s.started_utc_ns),
        f"<b>{s.duration_ns // 1_000_000_000:,} s of log</b>",
        f"times are {imported.precision}",
        *(_mount(mount) for mount in s.mounts[:3]),
        f"{imported.lines:,} lines",
    ]
    return "".join(f"<span>{part}</span>" for part in parts if part)


def _ending(s: Statistics) -> str:
    if not s.outcome.complete:
        return '<span class="bad">incomplete run</span>'
    if s.outcome.signal:
        return f'<span class="bad">killed by signal {s.outcome.signal}</span>'
    if s.outcome.exit_code:
        return f'<span class="bad">exit code {s.outcome.exit_code}</span>'
    return "succeeded" if s.outcome.exit_code == 0 else ""


def _mount(mount: dict[str, object]) -> str:
    name = mount["repository"] or mount["mountpoint"] or mount["device"]
    version = "" if mount["client_version"] is None else f" by cvmfs {mount['client_version']}"
    return as_html(f"{name}{version}", 80)


def _losses(s: Statistics) -> str:
    if not s.lost:
        return "no event lost"
    return f'<span class="bad">{plural(s.lost, "event", "events")} lost</span>'


def finding_items(items: Iterable[Finding]) -> str:
    """Return the findings as list items."""
    return "".join(
        f'<li class="{item.tone}"><b>{as_html(item.headline)}</b>'
        f"<span>{as_html(item.meaning, 1200)}</span></li>"
        for item in items
    )


def tiles(s: Statistics) -> str:
    """Return the numbers that one wants at a glance."""
    if s.imported is not None:
        return _tiles(
            [
                *((name, f"{count:,}") for name, count in s.imported.calls.items()),
                ("Cache hits", f"{s.imported.lookups_hit:,}"),
                ("Cache misses", f"{s.imported.lookups_missed:,}"),
                ("Objects downloaded", f"{s.fetches.downloaded:,}"),
            ]
        )
    cached = (
        f"{s.chunks_cached_at_start:,} of {s.chunks_looked_up:,}" if s.chunks_looked_up else "–"
    )
    rows = [
        ("Over HTTP", size(s.bytes.over_http)),
        ("Chunks downloaded", f"{s.fetches.chunks_downloaded:,}"),
        ("At once, on average", f"{s.fetches.mean_at_once:.1f}" if s.fetches.busy_ns else "none"),
        ("Chunks in the client’s cache at first lookup", cached),
        ("FUSE requests", f"{s.counts['fuse_requests']:,}"),
        ("Page-cache hits", words.hits(s.counts["page_cache_hits"], s.counts["page_cache_ns"])),
        *((_capital(words.source(name)), size(n)) for name, n in s.bytes.by_source.items() if n),
    ]
    return _tiles(rows)


def _tiles(rows: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f"<div><dt>{as_html(name)}</dt><dd>{as_html(value)}</dd></div>" for name, value in rows
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _key(name: str, colour: str, meaning: str = "", absent: bool = False) -> str:
    more = f" <em>{as_html(meaning)}</em>" if meaning else ""
    return (
        f'<span class="key{" absent" if absent else ""}"><i style="background:{colour}"></i>'
        f"{as_html(name)}{more}</span>"
    )


def family_legend(used: set[str]) -> str:
    """Return all causes by family; those that did not occur are pale."""
    blocks: list[str] = []
    for family in palette.FAMILIES:
        keys = [
            _key(cause, style.colour, style.meaning, cause not in used)
            for cause, style in palette.STYLES.items()
            if style.family == family
        ]
        blocks.append(f"<div><strong>{family}</strong>{''.join(keys)}</div>")
    return "".join(blocks)


def jumps(s: Statistics) -> str:
    """Return the buttons that show the whole run, each phase and the longest stall."""
    total = s.duration_ns / 1e9
    spans = [("Whole run", 0.0, total)]
    for phase in [phase for phase in s.phases if phase.times == 1][:6]:
        start = (phase.start_ns - s.start_ns) / 1e9
        spans.append((phase.name, start, start + phase.duration_ns / 1e9))
    if s.stalls.longest:
        stall = s.stalls.longest[0]
        spans.append(
            (
                "Longest stall",
                (stall.start_ns - s.start_ns) / 1e9,
                (stall.end_ns - s.start_ns) / 1e9,
            )
        )
    return "".join(
        f'<button type="button" data-from="{start:.9f}" data-to="{end:.9f}">'
        f"{as_html(name, 30)}</button>"
        for name, start, end in spans
    )


def _block(
    name: str, title: str, explanation: str, colours: Palette, note: str, drawn: bool
) -> str:
    legend = "".join(_key(word, colour) for word, colour in colours)
    figure = f'<div class="figure" data-figure="{name}"></div>' if drawn else ""
    notes = note if drawn else "Nothing of this kind was seen in this run."
    return (
        f'<div class="head"><h3>{title}</h3><p class="note">{as_html(explanation)}</p>'
        f'<div class="legend">{legend if drawn else ""}</div></div>'
        f'{figure}<p class="note">{as_html(notes)}</p>'
    )


def lane_block(group: LaneGroup, drawn: bool) -> str:
    """Return a group's heading, legend and the place for its figure."""
    if group.name == "threads":
        codes: set[int] = set()
        for lane in group.lanes:
            codes.update(lane.bricks["code"].unique().to_list())
        names = {group.palette[code][0] for code in codes}
        own = tuple((name, palette.STYLES[name].colour) for name in palette.ORDER if name in names)
    else:
        own = group.palette if group.name in {"requests", "daemon"} else ()
    return _block(group.name, group.title, group.explanation, own, group.note, drawn)


def causes_section(s: Statistics, legend: str) -> str:
    """Return where the time went; nothing for a log, which cannot tell."""
    if s.imported is not None:
        return ""
    return (
        '<section id="causes"><h2>Where the time went</h2><p class="lead">Every nanosecond of a '
        "phase’s thread has exactly one cause. Time that a thread slept until another woke it "
        'counts as what that other thread was doing.</p><div class="figure" data-figure="phases">'
        f'</div><div class="legend families">{legend}</div></section>'
    )


def counts_block(width_ns: int, drawn: bool) -> str:
    """Return the heading of what a log counts over time."""
    title = "What the log tells, in time"
    words = f"Lines in each {width_ns / 1e9:g} s. Within that, only their order is known."
    return _block("counts", title, words, SERIES, "", drawn)


def waterfall_block(note: str, drawn: bool) -> str:
    """Return the heading of the downloads."""
    words = (
        "queued in the client",
        "to the first byte",
        "transfer",
        "unpack, verify, write to cache",
    )
    colours = tuple(
        (word, palette.STYLES[part].colour)
        for word, part in zip(words, DOWNLOAD_PARTS, strict=True)
    )
    return _block(
        "downloads",
        "Downloads",
        "One row per request to the server, in the order sent.",
        colours,
        note,
        drawn,
    )


def incident_block() -> str:
    """Return the heading of the incidents."""
    words = "What happened to the mounts and their daemons; a line through every lane below."
    return _block("marks", "Incidents", words, (), "", True)


def heat_block(path: str) -> str:
    """Return the heading of the heat map."""
    return _block(
        "touches",
        "Where the file was touched",
        f"{visible(path, 90)}: offset downwards, darker is more.",
        (),
        "",
        True,
    )


def _table(heads: Sequence[tuple[str, str]], rows: Iterable[str]) -> str:
    head = "".join(f'<th class="{kind}">{name}</th>' for name, kind in heads)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'


def _cell(text: str, kind: str = "") -> str:
    return f'<td class="{kind}">{as_html(text, 300)}</td>'


def _parts(chunk: Chunk, longest_ns: int) -> str:
    width = 100 * chunk.duration_ns / max(longest_ns, 1)
    words = ", ".join(f"{_PART_NAMES[name]} {duration(ns)}" for name, ns in chunk.parts_ns.items())
    bars = "".join(
        f'<i style="width:{100 * ns / max(chunk.duration_ns, 1):.2f}%;'
        f'background:{palette.STYLES[_PART_COLOURS[name]].colour}"></i>'
        for name, ns in chunk.parts_ns.items()
    )
    opening = f'<div class="parts" style="width:{width:.1f}%" title="{as_html(words)}">'
    return f'<td class="bars">{opening}{bars}</div></td>'


def _chunk_row(chunk: Chunk, s: Statistics, longest_ns: int) -> str:
    at = "" if chunk.offset_bytes is None else f"{chunk.offset_bytes / (1 << 20):,.1f} MiB"
    cells = [
        _button_cell("fetch", chunk.fetch_id),
        _cell(duration(chunk.start_ns - s.start_ns), "n"),
        _cell(duration(chunk.duration_ns), "n"),
        _parts(chunk, longest_ns),
        _part_cell(chunk, "first_byte"),
        _part_cell(chunk, "transfer"),
        _cell("" if chunk.size_bytes is None else size(chunk.size_bytes), "n"),
        _cell("" if chunk.wire_bytes is None else size(chunk.wire_bytes), "n"),
        _cell(at, "n"),
        _file_cell(chunk.path),
        _hash_cell(chunk.object_hash),
        _cell(chunk.outcome or "never ended"),
    ]
    return f'<tr id="fetch-{chunk.fetch_id}">{"".join(cells)}</tr>'


def _button_cell(what: str, number: int) -> str:
    return f'<td class="n"><button type="button" data-{what}="{number}">#{number}</button></td>'


def _file_cell(path: str | None) -> str:
    if path is None:
        return _cell("no file known", "file")
    return f'<td class="file" title="{as_html(path)}">{as_html(path, 56)}</td>'


def _hash_cell(object_hash: str) -> str:
    return f'<td class="hash" title="{as_html(object_hash)}">{as_html(object_hash[:16])}…</td>'


def _part_cell(chunk: Chunk, part: str) -> str:
    ns = chunk.parts_ns.get(part)
    return _cell("" if ns is None else duration(ns), "n")


def _chunk_section(s: Statistics) -> str:
    if not s.slowest_chunks:
        return ""
    heads = [
        ("Fetch", "n"),
        ("At", "n"),
        ("Took", "n"),
        ("", ""),
        ("First byte", "n"),
        ("Transfer", "n"),
        ("Size", "n"),
        ("On the wire", "n"),
        ("Offset", "n"),
        ("File", ""),
        ("Object", ""),
        ("", ""),
    ]
    longest_ns = s.slowest_chunks[0].duration_ns
    rows = (_chunk_row(chunk, s, longest_ns) for chunk in s.slowest_chunks)
    return f'<section id="chunks"><h2>The slowest chunks</h2>{_table(heads, rows)}</section>'


def _fetched_section(s: Statistics, imported: Imported) -> str:
    if not imported.fetched:
        return ""
    rows = (
        "<tr>"
        + _cell(f"{row['fetch_id']}", "n")
        + _cell(f"{(row['start_ns'] - s.start_ns) // 1_000_000_000:,} s", "n")
        + _file_cell(row["path"])
        + _hash_cell(str(row["object_hash"]))
        + _cell(str(row["object_kind"] or ""))
        + _cell(str(row["outcome"] or "no end in the log"))
        + _cell(str(row["host"] or ""))
        + _cell(str(row["proxy"] or ""))
        + _cell("" if row["status"] is None else str(row["status"]))
        + "</tr>"
        for row in imported.fetched
    )
    heads = [
        ("Fetch", "n"),
        ("At", "n"),
        ("File", ""),
        ("Object", ""),
        ("Kind", ""),
        ("Ended", ""),
        ("Host", ""),
        ("Proxy", ""),
        ("Status", ""),
    ]
    title = "What was fetched, in order"
    return f'<section id="chunks"><h2>{title}</h2>{_table(heads, rows)}</section>'


def _loss_section(s: Statistics) -> str:
    return f'<section id="probes"><h2>What was left out</h2>{_loss_table(s)}</section>'


def _stall_row(stall: Stall, s: Statistics) -> str:
    total = max(stall.end_ns - stall.start_ns, 1)
    causes = list(stall.causes_ns.items())[:4]
    return (
        "<tr>"
        + "".join(
            [
                _button_cell("stall", stall.stall_id),
                _cell(stall.device),
                _cell(duration(stall.start_ns - s.start_ns), "n"),
                _cell(duration(total), "n"),
                _cell(str(stall.waiting_tid), "n"),
                _cell(", ".join(f"{cause} {percent(ns / total)}" for cause, ns in causes)),
            ]
        )
        + "</tr>"
    )


def _stall_section(s: Statistics) -> str:
    if not s.stalls.longest:
        return ""
    heads = [
        ("Stall", "n"),
        ("Device", ""),
        ("At", "n"),
        ("Lasted", "n"),
        ("Thread", "n"),
        ("Waited for", ""),
    ]
    rows = (_stall_row(stall, s) for stall in s.stalls.longest[:15])
    return f'<section id="stalls"><h2>The longest stalls</h2>{_table(heads, rows)}</section>'


def _mount_section(s: Statistics) -> str:
    rows = [_mount_row(mount, s) for mount in s.mounts if mount["daemon_pid"] is not None]
    if not rows:
        return ""
    heads = [
        ("Mount point", ""),
        ("Repository", ""),
        ("Revision", ""),
        ("Client", ""),
        ("Daemon", "n"),
        ("Cache", ""),
        ("Of the cache is seen", ""),
        ("Against the client’s counters", ""),
    ]
    return f'<section id="mounts"><h2>Mounts</h2>{_table(heads, rows)}</section>'


def _mount_row(mount: dict[str, Any], s: Statistics) -> str:
    before, after = mount["revision_at_start"], mount["revision"]
    known = [str(one) for one in dict.fromkeys((before, after)) if one is not None]
    cache = " in ".join(filter(None, (mount["cache_manager"], mount["cache_path"])))
    checked = [row for row in s.reconciliation if row["mount_id"] == mount["mount_id"]]
    cells = [
        _cell(mount["mountpoint"] or "", "path"),
        _cell(mount["repository"] or ""),
        _cell(", then ".join(known)),
        _cell(mount["client_version"] or ""),
        _cell(str(mount["daemon_pid"]), "n"),
        _cell(cache, "path"),
        _cell(words.cache_shown(mount["cache_manager"])),
        _cell("; ".join(map(_checked, checked)) or "not known"),
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _checked(row: dict[str, Any]) -> str:
    """One comparison in words."""
    name, difference = _QUANTITIES[str(row["quantity"])], row["difference"]
    if difference is None:
        return f"{name}: {row['remark'] or 'not known'}"
    said = f"{name}: {row['recorded']:,}, " + (
        "no difference" if difference == 0 else f"{difference:+,} against {row['counted']:,}"
    )
    return said + (f" ({row['remark']})" if row["remark"] else "")


_QUANTITIES = {
    "objects": "objects downloaded", "body_bytes": "bytes received",
    "chunks": "chunks as listed",
}  # fmt: skip


def _probe_section(s: Statistics) -> str:
    families = Counter(str(probe["family"]) for probe in s.probes)
    said = ", ".join(f"{count} by {as_html(family)}" for family, count in families.most_common())
    body = _loss_table(s) + f"<p class='lead'>{plural(len(s.probes), 'attach point')}: {said}.</p>"
    lacking = [probe for probe in s.probes if probe["reason"]]
    body += _probe_table(lacking) if lacking else ""
    everything = f"<details><summary>All of them</summary>{_probe_table(s.probes)}</details>"
    return f'<section id="probes"><h2>How it was observed</h2>{body}{everything}</section>'


def _probe_table(probes: Iterable[dict[str, Any]]) -> str:
    rows = (
        "<tr>"
        + _cell(str(probe["event"]))
        + _cell(str(probe["family"]))
        + _cell(str(probe["target"]), "path")
        + _cell(f"{probe['hits']:,}", "n")
        + _cell(str(probe["reason"] or ""))
        + "</tr>"
        for probe in probes
    )
    heads = [("Event", ""), ("Observed by", ""), ("At", ""), ("Hits", "n"), ("Remark", "")]
    return _table(heads, rows)


def _loss_table(s: Statistics) -> str:
    if not s.losses:
        return '<p class="lead">No event was lost.</p>'
    rows = (
        "<tr>"
        + _cell(str(loss["probe"]))
        + _cell(str(loss["cause"]))
        + _cell(f"{loss['count']:,}", "n")
        + "</tr>"
        for loss in s.losses
    )
    return "<h3>Lost</h3>" + _table([("Probe", ""), ("Why", ""), ("Events", "n")], rows)


def _incident_section(s: Statistics) -> str:
    if not s.incidents:
        return ""
    rows = (
        "<tr>"
        + _cell(duration(i["time_ns"] - s.start_ns), "n")
        + _cell(str(i["kind"]))
        + _cell("" if i["pid"] is None else str(i["pid"]), "n")
        + _cell(str(i["detail"]), "path")
        + "</tr>"
        for i in s.incidents
    )
    heads = [("At", "n"), ("What", ""), ("Process", "n"), ("Detail", "")]
    return f'<section id="incidents"><h2>Incidents</h2>{_table(heads, rows)}</section>'


def tables(s: Statistics) -> str:
    """Return the sections below the timeline."""
    if s.imported is not None:
        return _fetched_section(s, s.imported) + _incident_section(s) + _loss_section(s)
    observed = _mount_section(s) + _probe_section(s)
    return _chunk_section(s) + _stall_section(s) + _incident_section(s) + observed


def footer(s: Statistics) -> str:
    """Return the last line."""
    return f"Made by cvmprof {as_html(s.cvmprof_version, 30)}. This file is complete in itself."
