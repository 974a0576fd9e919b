"""The page's style: light and dark as the reader has it, wide, narrow and on paper. Nothing comes from elsewhere."""

from __future__ import annotations

from ps.compare.look import BACKGROUND, variables

LIGHT = (
    f"--page:{BACKGROUND['light']};--card:#f6f7f9;--ink:#16191d;--soft:#555c66;--edge:#d9dde3;--good:#006b45;--bad:#b3261e;"
    + variables("light")
)
DARK = (
    f"--page:{BACKGROUND['dark']};--card:#1d2128;--ink:#eceff3;--soft:#a5adb8;--edge:#3a414b;--good:#4fd1a0;--bad:#ff8f85;"
    + variables("dark")
)

STYLE = f"""
:root{{color-scheme:light dark;{LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}
@media print{{:root{{{LIGHT}}}}}
"""

STYLE += """
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:72rem;background:var(--page);color:var(--ink);
 font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.015em}
h2{font-size:1.3rem;line-height:1.3;margin:3rem 0 .5rem;letter-spacing:-.01em}
h3{font-size:1rem;margin:0 0 .3rem}
p{margin:.4rem 0;max-width:46rem}
.lead,.soft,figcaption,caption{color:var(--soft)}
code,pre{font:.85em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--card);border:1px solid var(--edge);border-radius:.5rem;padding:.7rem .9rem;
 overflow-x:auto;margin:.5rem 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.4rem,1fr));gap:.7rem;margin:1.3rem 0;
 padding:0;list-style:none}
.tile{background:var(--card);border:1px solid var(--edge);border-radius:.7rem;padding:.75rem .9rem}
.tile .name{font-size:.88rem;min-height:2.6em;line-height:1.3}
.tile .big{font-size:1.65rem;font-weight:650;letter-spacing:-.02em;line-height:1.3;font-variant-numeric:tabular-nums}
.tile .soft{font-size:.82rem;line-height:1.4}
.good{color:var(--good)}.bad{color:var(--bad)}
.legend{position:sticky;top:0;z-index:1;display:flex;flex-wrap:wrap;gap:.15rem 1.1rem;margin:.6rem 0;padding:.5rem 0;
 list-style:none;background:var(--page);font-size:.85rem;border-bottom:1px solid var(--edge)}
.legend li{display:flex;align-items:center;gap:.45rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:1.4rem 1.8rem;
 align-items:start}
figure{margin:0;min-width:0}
figure>svg{display:block;width:100%;height:auto}
.bars{max-width:34rem}
figcaption{font-size:.88rem;margin:.2rem 0}
svg text{font-family:inherit;fill:var(--ink)}
svg .tick{font-size:11px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .label,svg .row,svg .note{font-size:12px}
svg .label,svg .note{fill:var(--soft)}
svg .grid{stroke:var(--edge);stroke-width:1}
svg .axis{stroke:var(--soft);stroke-width:1}
svg .line{stroke-width:2;stroke-linejoin:round}
svg .whisker{stroke:var(--ink);stroke-width:1.2;fill:none}
svg .cell{fill:none;stroke:var(--edge);stroke-width:1}
svg .box{fill:none;stroke:var(--soft);stroke-width:1.4}
svg .arrow{fill:none;stroke:var(--soft);stroke-width:1.3}
svg .example{fill:var(--run)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,14rem),1fr));gap:.9rem;margin:1rem 0}
.card{background:var(--card);border:1px solid var(--edge);border-radius:.7rem;padding:.9rem 1rem;font-size:.92rem}
.card .sketch{display:block;width:100%;max-width:17rem;height:auto;margin:.2rem auto .5rem}
.scroll{overflow-x:auto;margin:.7rem 0}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--sync);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.88rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.2rem 0;font-size:.85rem}
th,td{padding:.34rem .7rem .34rem 0;text-align:left;border-bottom:1px solid var(--edge);
 vertical-align:top;font-weight:400}
thead th{color:var(--soft);white-space:nowrap}
tbody th{font-weight:550}
.n{text-align:right;white-space:nowrap}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--soft);font-size:.88rem;padding:.2rem 0}
ul.notes{padding-left:1.1rem;max-width:46rem}
ul.notes li{margin:.35rem 0}
footer{margin-top:3rem;color:var(--soft);font-size:.85rem}
@media (max-width:40rem){
 body{padding:1rem .9rem 3rem}
 h1{font-size:1.5rem}
 .tiles{grid-template-columns:1fr 1fr}
 .stacked thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
 .stacked,.stacked tbody,.stacked tr,.stacked th,.stacked td{display:block}
 .stacked caption{display:block}
 .stacked tr{padding:.5rem 0;border-bottom:1px solid var(--edge)}
 .stacked th,.stacked td{border:0;padding:.12rem 0}
 .stacked td{display:flex;justify-content:space-between;gap:1rem;text-align:right;white-space:normal}
 .stacked td::before{content:attr(data-label);color:var(--soft)}
}
@media print{.legend{position:static}details>*{display:block}}
"""
