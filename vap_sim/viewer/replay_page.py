"""Replays as one page beside their films: pick a recording, click a curve or drag the slider, and the film follows.

The page needs nothing from elsewhere and forbids itself to ask: one script, whose hash its policy names, and films that
lie beside it. Names come from users and are escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vap_sim.viewer.replay_curves import Color, Curve, Plot, plots_of, ticks
from vap_sim.viewer.replay_record import FIGURES, ReplayRecord, Row, track_of, write_text

PAGE = "replay.html"
_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 190, 44, 12, 10, 22
_STYLE = """
:root{color-scheme:dark}
body{font:15px/1.5 system-ui,sans-serif;margin:0;background:#18181a;color:#ebebeb}
main{max-width:1200px;margin:0 auto;padding:1rem 1rem 4rem}
h1{font-size:1.3rem;margin:.2rem 0 .8rem}.s{color:#96a0af;font-size:.88em}
.bar{display:flex;gap:.6rem;align-items:center;margin:.6rem 0}
.bar input{flex:1;accent-color:#5aa9ff}
select,button{font:inherit;background:#2a2a2e;color:inherit}
select,button{border:1px solid #555;border-radius:4px;padding:.15rem .6rem}
video{width:100%;background:#000;display:block}section[hidden]{display:none}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:.6rem}
figure{margin:.4rem 0;min-width:0;display:flex;flex-direction:column;justify-content:end}
figcaption{font-size:.88em;color:#96a0af}figcaption b{font-weight:500}
svg{width:100%;height:auto;cursor:crosshair;touch-action:none;display:block}
text{font:11px system-ui,sans-serif;fill:#96a0af}.head{stroke:#ebebeb;stroke-width:1.5}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto;margin:.6rem 0}
th,td{padding:.15rem .7rem;border-bottom:1px solid #444;text-align:right}th:first-child,td:first-child{text-align:left}
output{min-width:11rem;text-align:right;font-variant-numeric:tabular-nums}
.bad{border-left:4px solid #d2782a;padding:.2rem .8rem;background:#d2782a22}
"""
_SCRIPT = """
'use strict';
const pick=document.querySelector('#pick'),sections=[...document.querySelectorAll('section')];
function show(n){sections.forEach((s,k)=>{s.hidden=k!==n;if(k!==n)s.querySelector('video').pause()});
 if(pick)pick.value=n;location.replace('#'+n);place(sections[n])}
const rate=s=>+s.dataset.rate,last=s=>+s.dataset.frames-1;
function step(s){
 return Math.min(last(s),Math.max(0,Math.floor(s.querySelector('video').currentTime*rate(s)+1e-3)))}
function seek(s,k){k=Math.min(last(s),Math.max(0,k));
 const v=s.querySelector('video');v.pause();v.currentTime=(k+.5)/rate(s);place(s,k)}
function place(s,k){if(k===undefined)k=step(s);const share=last(s)?k/last(s):0;
 s.querySelector('input').value=k;
 s.querySelector('output').textContent='step '+k+' of '+last(s)+', '+(k/rate(s)).toFixed(1)+' s';
 for(const g of s.querySelectorAll('svg')){const x=+g.dataset.left+share*(+g.dataset.wide);
  const h=g.querySelector('.head');h.setAttribute('x1',x);h.setAttribute('x2',x)}
 for(const b of s.querySelectorAll('b[data-values]')){const c=JSON.parse(b.dataset.values);
  const i=Math.floor(k/rate(s)*c.rate+1e-6)-1,v=i>=0?c.values[Math.min(i,c.values.length-1)]:null;
  b.querySelector('i').textContent=v===null||v===undefined?'-':v.toFixed(c.digits)}}
for(const s of sections){const v=s.querySelector('video');
 s.querySelector('input').addEventListener('input',e=>seek(s,+e.target.value));
 s.querySelector('button').addEventListener('click',()=>v.paused?v.play():v.pause());
 v.addEventListener('timeupdate',()=>{if(!v.paused)place(s)});v.addEventListener('seeked',()=>place(s));
 v.addEventListener('ended',()=>place(s,last(s)));
 const tick=()=>{if(!v.paused&&!v.ended){place(s);requestAnimationFrame(tick)}};v.addEventListener('play',tick);
 for(const g of s.querySelectorAll('svg')){const go=e=>{const r=g.getBoundingClientRect();
   const x=(e.clientX-r.left)/r.width*(+g.dataset.all);
   seek(s,Math.round((x-g.dataset.left)/g.dataset.wide*last(s)))};
  g.addEventListener('pointerdown',e=>{g.setPointerCapture(e.pointerId);go(e)});
  g.addEventListener('pointermove',e=>{if(e.buttons)go(e)})}}
if(pick)pick.addEventListener('change',()=>show(+pick.value));
addEventListener('keydown',e=>{const s=sections.find(s=>!s.hidden),k=step(s);
 if(e.target.tagName==='SELECT'||e.target.tagName==='INPUT')return;
 if(e.key==='ArrowRight')seek(s,k+1);else if(e.key==='ArrowLeft')seek(s,k-1);
 else if(e.key==='Home')seek(s,0);else if(e.key==='End')seek(s,last(s));
 else if(e.key===' '){e.preventDefault();s.querySelector('button').click()}});
const wanted=+location.hash.slice(1);show(wanted>0&&wanted<sections.length?wanted:0);
"""


def write_page(folder: Path, record: ReplayRecord, title: str) -> Path | None:
    """Write the page of a folder's films, whole or not at all; None where there is no film. Raises OSError."""
    text = page(record, title)
    if text is None:
        return None
    write_text(folder / PAGE, text)
    return folder / PAGE


def page(record: ReplayRecord, title: str) -> str | None:
    """The page as text; None where no film was written."""
    scenes: dict[tuple[str, str], list[Row]] = {}
    for row in record.rows:
        if "mp4" in row["files"]:
            scenes.setdefault((row["episode"], row["view"]), []).append(row)
    if not scenes:
        return None
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; media-src 'self' file:"
    options = "".join(
        f'<option value="{number}">{escape(episode)}, {escape(view)}</option>'
        for number, (episode, view) in enumerate(scenes)
    )
    picker = f'<div class="bar"><select id="pick">{options}</select></div>' if len(scenes) > 1 else ""
    parts = [f"<h1>{escape(title)}</h1>", picker]
    parts += [_section(number, *key, rows) for number, (key, rows) in enumerate(scenes.items())]
    parts += [_means(record), _refused(record)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + f"\n</main><script>{_SCRIPT}</script></body></html>\n"
    )


def _section(number: int, episode: str, view: str, rows: Sequence[Row]) -> str:
    """One scene: its film, the bar below it, and its curves."""
    rate = max(row["frame_rate"] for row in rows)
    frames = 1 + round(max(len(row["steps"]) / row["frame_rate"] for row in rows) * rate)
    plots = plots_of([track_of(row) for row in rows])
    told = f"<p>{escape(rows[0]['instruction'])}</p>" if rows[0]["instruction"] else ""
    bar = f'<input type="range" min="0" max="{frames - 1}" value="0" aria-label="step"><output></output>'
    return (
        f'<section data-rate="{rate:.9g}" data-frames="{frames}"{" hidden" if number else ""}>'
        f'<p class="s">{escape(episode)}, {escape(view)}</p>{told}'
        f'<video muted playsinline preload="auto" src="{escape(quote(rows[0]["files"]["mp4"]))}"></video>'
        f'<div class="bar"><button type="button">play / pause</button>{bar}</div>'
        f'<div class="plots">{"".join(_plot(plot, (frames - 1) / rate, rows) for plot in plots)}</div></section>'
    )


def _plot(plot: Plot, duration: float, rows: Sequence[Row]) -> str:
    """A plot as SVG, below the names of its curves and their values at the playhead."""
    wide, high = _WIDE - _LEFT - _RIGHT, _HIGH - _TOP - _BOTTOM

    def x(time: float) -> float:
        return _LEFT + wide * time / max(duration, 1e-9)

    def y(value: float) -> float:
        return _TOP + high * (1 - min(max((value - plot.low) / (plot.high - plot.low), 0), 1))

    marks = []
    for share in (0.0, 0.5, 1.0):
        value = plot.low + share * (plot.high - plot.low)
        line = f'x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"'
        marks.append(f'<line {line} stroke="#38383c"/><text x="4" y="{y(value) + 4:.1f}">{value:g}</text>')
    marks += [f'<text x="{x(t) - 4:.1f}" y="{_HIGH - 6}">{t:g}</text>' for t in ticks(duration)]
    marks += [_line(curve, x, y) for curve in plot.curves]
    if plot.remark:
        marks.append(f'<text x="{_LEFT + 10}" y="{_HIGH / 2:g}">{escape(plot.remark)}</text>')
    head = f'<line class="head" x1="{_LEFT}" x2="{_LEFT}" y1="{_TOP}" y2="{_HIGH - _BOTTOM}"/>'
    data = f'data-left="{_LEFT}" data-wide="{wide}" data-all="{_WIDE}"'
    legend = " &nbsp; ".join(_named(curve, plot.digits) for curve in plot.curves)
    svg = f'<svg viewBox="0 0 {_WIDE} {_HIGH}" {data} role="img">{"".join(marks)}{head}</svg>'
    return f"<figure><figcaption>{escape(plot.title)}: {legend}</figcaption>{svg}</figure>"


def _line(curve: Curve, x: Any, y: Any) -> str:
    """A curve as paths between its gaps."""
    runs: list[list[str]] = [[]]
    for time, value in zip(curve.times, curve.values, strict=True):
        if math.isfinite(value):
            runs[-1].append(f"{x(time):.1f} {y(value):.1f}")
        elif runs[-1]:
            runs.append([])
    style = 'stroke-dasharray="5 4" stroke-width="1.3"' if curve.dashed else 'stroke-width="2"'
    # A run of one point is drawn as a dot, by the round end of a line without length.
    path = " ".join(f"M{run[0]} " + " ".join(f"L{point}" for point in run[1:] or run) for run in runs if run)
    return f'<path d="{path}" fill="none" stroke="{_hex(curve.color)}" stroke-linecap="round" {style}/>' if path else ""


def _named(curve: Curve, digits: int) -> str:
    """A curve's name in its color, and the values that the script shows beside it."""
    rate = 1 / float(curve.times[0]) if len(curve.times) else 1.0
    values = [round(float(value), 4) if math.isfinite(value) else None for value in curve.values]
    data = escape(json.dumps({"rate": rate, "digits": digits, "values": values}), quote=True)
    return f'<b style="color:{_hex(curve.color)}" data-values="{data}">{escape(curve.label)} <i>-</i></b>'


def _means(record: ReplayRecord) -> str:
    """The mean of each figure, by dream."""
    means = record.means()
    names = [name for name in FIGURES if any(name in told for told in means.values())]
    heads = "".join(f'<th title="{escape(FIGURES[name])}">{escape(name)}</th>' for name in names)
    lines = []
    for lane, told in means.items():
        cells = "".join(f"<td>{'' if told.get(name) is None else format(told[name], '.2f')}</td>" for name in names)
        lines.append(f"<tr><td>{escape(lane)}</td>{cells}</tr>")
    legend = "; ".join(f"{name}: {FIGURES[name]}" for name in names)
    return (
        f"<h1>Means over all recordings here</h1><table><tr><th>dream</th>{heads}</tr>{''.join(lines)}</table>"
        f'<p class="s">{escape(legend)}.</p>'
    )


def _refused(record: ReplayRecord) -> str:
    """What could not be replayed, and why."""
    lines = [f"{row['episode']}: {row['reason']}" for row in record.refused]
    lines += [f"{row['episode']}, {row['view']}: {row['reason']}" for row in record.left_out]
    if not lines:
        return ""
    return f'<div class="bad">Not replayed:<ul>{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul></div>'


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
