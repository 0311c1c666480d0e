"""Medians of paired ratios, the bars they are held against, and the three documents made from them."""
import csv
import os
import platform
import statistics
import subprocess
from pathlib import Path

from .pairs import CANDIDATES

FIELDS = ("round", "metric", "figure", "candidate", "value", "native IPv6")

COLUMNS = (                                               # metric, figure, heading
    ("tcp-up-1", "bytes/s", "TCP up"), ("tcp-down-1", "bytes/s", "TCP down"),
    ("tcp-up-4", "bytes/s", "TCP up, 4 streams"), ("tcp-down-4", "bytes/s", "TCP down, 4 streams"),
    ("tcp-up-1", "cpu", "CPU/GB up"), ("tcp-down-1", "cpu", "CPU/GB down"),
    ("udp-64", "packets/s", "UDP 64 B"), ("udp-1200", "packets/s", "UDP 1200 B"), ("udp-gso", "bytes/s", "UDP GSO"),
    ("rtt", "p50", "RTT p50"), ("rtt", "p99", "RTT p99"), ("connect", "per s", "connections/s"),
    ("wire-up-1", "bytes/s", "1500-byte wire: TCP up"), ("wire-down-1", "bytes/s", "1500-byte wire: TCP down"),
    ("wire-udp-1200", "packets/s", "1500-byte wire: UDP 1200 B"),
)

FAST = ("fast-shared", "fast-dedicated")
BARS = (                                                  # candidates, metrics, figure, at least, at most
    *((FAST, m, "bytes/s", 0.98, None) for m in ("tcp-up-1", "tcp-down-1", "tcp-up-4", "tcp-down-4")),
    *((FAST, m, "cpu", None, 1.03) for m in ("tcp-up-1", "tcp-down-1")),
    (FAST[:1], "udp-64", "packets/s", 0.93, None), (FAST[1:], "udp-64", "packets/s", 0.96, None),
    (FAST, "udp-1200", "packets/s", 0.93, None), (FAST, "udp-gso", "bytes/s", 0.98, None),
    (FAST[:1], "rtt", "p50", None, 1.10), (FAST[1:], "rtt", "p50", None, 1.07),
    (FAST[:1], "connect", "per s", 0.92, None), (FAST[1:], "connect", "per s", 0.95, None),
    (("fallback",), "tcp-up-1", "bytes/s", 0.65, None), (("fallback",), "tcp-down-1", "bytes/s", 0.65, None),
)
VERSUS_TAYGA = (                                          # metric, figure, at least / at most this many times TAYGA's
    ("tcp-up-1", "bytes/s", 4.0, None), ("tcp-down-1", "bytes/s", 4.0, None), ("udp-64", "packets/s", 1.0, None),
    ("udp-1200", "packets/s", 1.0, None), ("rtt", "p50", None, 1.0), ("connect", "per s", 1.0, None),
)
ABSOLUTE = (("rss", "kB", 8192), ("first", "ms", 100))


def read(path):
    """Rows of an earlier run, or none."""
    if not path or not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(int(r["round"]), r["metric"], r["figure"], r["candidate"], float(r["value"]),
                 float(r["native IPv6"]) if r["native IPv6"] else None) for r in csv.DictReader(file)]


def write_csv(path, rows):
    """All single figures."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(FIELDS)
        for number, metric, figure, name, value, base in rows:
            out.writerow([number, metric, figure, name, f"{value:.6g}", "" if base is None else f"{base:.6g}"])


def ratios(rows, metric, figure, name):
    """The paired ratios."""
    return [r[4] / r[5] for r in rows if (r[1], r[2], r[3]) == (metric, figure, name) and r[5]]


def ratio(rows, metric, figure, name):
    """Their median, or None."""
    found = ratios(rows, metric, figure, name)
    return statistics.median(found) if found else None


def spread(rows, metric, figure, name):
    """Their quartiles as text, or nothing."""
    found = ratios(rows, metric, figure, name)
    if len(found) < 4:
        return ""
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return f"{low:.3f} to {high:.3f}"


def absolute(rows, metric, figure, name):
    """Median of the values, or None."""
    found = [r[4] for r in rows if (r[1], r[2], r[3]) == (metric, figure, name)]
    return statistics.median(found) if found else None


def native(rows, metric, figure):
    """Median of what native IPv6 did, or None."""
    found = [r[5] for r in rows if (r[1], r[2]) == (metric, figure) and r[5] is not None]
    return statistics.median(found) if found else None


def shown(value, digits=2):
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def human(figure, value):
    """A native figure with its unit."""
    if value is None:
        return "–"
    return {"bytes/s": lambda v: f"{v * 8 / 1e9:.1f} Gb/s", "cpu": lambda v: f"{v:.2f} CPU s",
            "packets/s": lambda v: f"{v / 1e6:.2f} M/s", "p50": lambda v: f"{v / 1e3:.1f} µs",
            "p99": lambda v: f"{v / 1e3:.1f} µs", "per s": lambda v: f"{v / 1e3:.1f} k/s"}[figure](value)


def table(rows):
    """Candidates by metric, as Markdown."""
    names = [c for c in CANDIDATES if any(r[3] == c for r in rows)]
    lines = ["| | native IPv6 | " + " | ".join(CANDIDATES[c] for c in names) + " |", "|---" * (len(names) + 2) + "|"]
    for metric, figure, heading in COLUMNS:
        base = native(rows, metric, figure)
        if base is not None:
            cells = " | ".join(shown(ratio(rows, metric, figure, c)) for c in names)
            lines.append(f"| {heading} | {human(figure, base)} | {cells} |")
    for metric, figure, heading in (("rss", "kB", "memory (RSS), MB"), ("first", "ms", "start to first reply, ms")):
        if any(r[1] == metric for r in rows):
            scale = 1024 if figure == "kB" else 1
            cells = (absolute(rows, metric, figure, c) for c in names)
            lines.append(f"| {heading} | – | "
                         + " | ".join(shown(None if v is None else v / scale, 1) for v in cells) + " |")
    return "\n".join(lines)


def bars(rows):
    """Each bar: (what, who, wanted, measured, quartiles, floor, met or None where it was not measured)."""
    headings = {(m, f): h for m, f, h in COLUMNS}
    found = []
    for names, metric, figure, least, most in BARS:
        for name in names:
            value = ratio(rows, metric, figure, name)
            floor = ratio(rows, metric, figure, "floor") if name in FAST else None
            found.append(_bar(headings.get((metric, figure), f"{metric} {figure}"), name, value, least, most, 3,
                              spread(rows, metric, figure, name), "" if floor is None else shown(floor, 3)))
    for metric, figure, least, most in VERSUS_TAYGA:
        ours, theirs = (ratio(rows, metric, figure, c) for c in ("fallback", "tayga"))
        value = ours / theirs if ours and theirs else None
        found.append(_bar(f"{headings[metric, figure]}, times TAYGA's", "fallback", value, least, most, 2))
    for metric, figure, most in ABSOLUTE:
        for name in (*FAST, "fallback"):
            what = "memory (RSS), kB" if metric == "rss" else "start to first reply, ms"
            found.append(_bar(what, name, absolute(rows, metric, figure, name), None, most, 0))
    return found


def _bar(what, name, value, least, most, digits, quartiles="", floor=""):
    met = None if value is None else round(value, digits) >= least if least is not None else round(value, digits) <= most
    wanted = f"≥ {least:g}" if least is not None else f"≤ {most:g}"
    return what, CANDIDATES[name], wanted, shown(value, digits), quartiles, floor, met


def machine():
    """What it was measured on."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith(("model name", "Model"))), platform.machine())
    virtual = "hypervisor" in Path("/proc/cpuinfo").read_text()
    system = next((line.split("=", 1)[1].strip('"') for line in Path("/etc/os-release").read_text().splitlines()
                   if line.startswith("PRETTY_NAME=")), "Linux")
    tayga = subprocess.run(["dpkg-query", "-Wf", "${Version}", "tayga"], capture_output=True, text=True).stdout
    return (f"{model}, {os.cpu_count()} CPUs{' of a virtual machine' if virtual else ''}; Linux {platform.release()}; "
            f"{system}; TAYGA {tayga or 'of unknown version'}")


def document(rows):
    """docs/benchmark.md."""
    counts = {}
    for row in rows:
        if row[5] is not None:
            counts[row[1:4]] = counts.get(row[1:4], 0) + 1
    rounds = " to ".join(map(str, sorted({min(counts.values(), default=0), max(counts.values(), default=0)})))
    verdicts = bars(rows)
    word = {True: "yes", False: "**no**", None: "not measured"}
    lines = "\n".join(f"| {what} | {who} | {wanted} | {value} | {quartiles} | {floor} | {word[met]} |"
                      for what, who, wanted, value, quartiles, floor, met in verdicts)
    return f"""\
# Benchmark

Written whole by `tests/bench --write`; the single figures are in [benchmark.csv](benchmark.csv).

Measured on: {machine()}.

Each candidate has a pair of network namespaces of its own, joined by a veth with an MTU of 1500. The far end owns the
NAT64-mapped address itself, so that no NAT64 limits. Every figure is the median of {rounds} ratios; each ratio is of one run of
the candidate and one of native IPv6 directly before it. Bulk senders run on CPU 0 and receivers on CPU 1; round trips
and connections have client and server on CPU 0. Translating daemons run where the scheduler puts them. CPU per GB is
the whole machine's. The native column is absolute, all others are ratios to it: for throughput more is better, for
CPU and RTT less. "1500-byte wire" has segmentation, checksum and receive offloads of the veth off.

![Ratios to native IPv6](benchmark.svg)

{table(rows)}

A connection is `connect`, a byte there and back, and a reset. Start to first reply is from `fork` of a clatd with a
configured prefix to the first datagram echoed.

"Native IPv6 again" is a second pair of the same kind: how far it is from 1 is how far any figure here can be off.
"Floor" are two eBPF programs in the fast path's places that translate TCP and UDP and do nothing else: no flow
records, no check of anything, no counters (`tests/benchmark/floor.bpf.c`). What it lacks to native IPv6 is the
kernel's own price for another header and another device; [benchmark-designs.md](benchmark-designs.md) has what was
tried to lower it.

## Bars

| | candidate | wanted | measured | quartiles | floor | met |
|---|---|---|---|---|---|---|
{lines}
"""


# Colours that keep their contrast on white and on GitHub's dark background.
COLOURS = {"native-ipv4": "#8b949e", "fast-shared": "#1f8f4d", "fast-dedicated": "#2f81f7", "fallback": "#bf8700",
           "tayga": "#d1434b"}
PLOTTED = (("tcp-up-1", "bytes/s"), ("tcp-down-1", "bytes/s"), ("udp-64", "packets/s"), ("udp-1200", "packets/s"),
           ("udp-gso", "bytes/s"), ("connect", "per s"))


def plot(rows):
    """docs/benchmark.svg: groups of bars, native IPv6 = 1."""
    names = [c for c in COLOURS if any(r[3] == c for r in rows)]
    headings = {(m, f): h for m, f, h in COLUMNS}
    width, height, left, top, bottom = 860, 330, 44, 44, 46
    top_value = 1.2
    inner = height - top - bottom
    group = (width - left - 12) / len(PLOTTED)
    bar = group * 0.84 / max(len(names), 1)
    def y(value):
        return top + inner * (1 - min(value, top_value) / top_value)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
           'aria-label="Throughput and connection rate as ratios to native IPv6">',
           "<style>text{font:12px sans-serif;fill:#57606a}.grid{stroke:#8b949e;stroke-opacity:.35}"
           ".one{stroke:#8b949e;stroke-width:1.5;stroke-dasharray:5 3}"
           "@media(prefers-color-scheme:dark){text{fill:#b1bac4}}</style>"]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2):
        kind = "one" if tick == 1.0 else "grid"
        out.append(f'<line class="{kind}" x1="{left}" x2="{width - 12}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        out.append(f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for index, (metric, figure) in enumerate(PLOTTED):
        start = left + index * group + group * 0.08
        for place, name in enumerate(names):
            value = ratio(rows, metric, figure, name)
            if value is None:
                continue
            out.append(f'<rect x="{start + place * bar:.1f}" y="{y(value):.1f}" width="{bar - 2:.1f}" '
                       f'height="{y(0) - y(value):.1f}" fill="{COLOURS[name]}">'
                       f"<title>{CANDIDATES[name]}: {value:.2f}</title></rect>")
        out.append(f'<text x="{start + group * 0.42:.1f}" y="{height - bottom + 18}" text-anchor="middle">'
                   f"{headings[metric, figure]}</text>")
    x = left
    for name in names:
        out.append(f'<rect x="{x}" y="14" width="11" height="11" fill="{COLOURS[name]}"/>')
        out.append(f'<text x="{x + 16}" y="24">{CANDIDATES[name]}</text>')
        x += 36 + int(6.3 * len(CANDIDATES[name]))
    out.append(f'<text x="{left}" y="{height - 8}">native IPv6 = 1 (dashed); more is better</text>')
    return "\n".join([*out, "</svg>", ""])


def write_documents(docs, rows):
    """docs/benchmark.md and docs/benchmark.svg."""
    (docs / "benchmark.md").write_text(document(rows), encoding="utf-8")
    (docs / "benchmark.svg").write_text(plot(rows), encoding="utf-8")
