"""How the report looks."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf8; --ink: #1e2126; --text: #62666e; --rule: #dcd8ce; --grid: #e8e5dc;
  --well: #f4f2ec; --good: #23713c; --bad: #ad2f26; --warning: #ad2f26;
  --blue: #24588f; --teal: #1d746b; --rust: #b04a2f; --plum: #75457c; --slate: #4b5d73;
  --line: var(--blue); --other: var(--rust);
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Source Serif 4", Georgia,
    "Liberation Serif", serif;
  --sans: "Helvetica Neue", Helvetica, Inter, "Liberation Sans", Arial, system-ui, sans-serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --ink: #e4e1da; --text: #9a9fa8; --rule: #33373e; --grid: #2a2e35;
    --well: #1c1f25; --good: #6cc384; --bad: #f0897f; --warning: #f0897f;
    --blue: #7fb2e8; --teal: #62c2b4; --rust: #e8926f; --plum: #c596cf; --slate: #a3b4c9;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 1080px; padding: 72px 32px 96px;
  background: var(--paper); color: var(--ink); font: 17px/1.58 var(--serif);
}
header { border-bottom: 1px solid var(--rule); padding-bottom: 34px; }
.kind { font: 600 12px/1 var(--sans); letter-spacing: .09em; text-transform: uppercase;
  color: var(--text); }
h1 { font-size: 42px; line-height: 1.14; font-weight: 600; letter-spacing: -.012em;
  margin: 14px 0 10px; overflow-wrap: anywhere; }
.origin { font: 14px/1.5 var(--sans); color: var(--text); margin: 0 0 28px;
  overflow-wrap: anywhere; }
.subject { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0 28px;
  margin: 0 0 28px; border-top: 1px solid var(--rule); padding-top: 12px; }
.subject dt { font: 600 12px/1.7 var(--sans); }
.subject dd { font: 14px/1.5 var(--sans); }
.constants { margin-top: 40px; } .constants dl { grid-template-columns: 1fr 2fr; }
.constants dt { color: var(--ink); }
.verdict { font-size: 20px; line-height: 1.55; max-width: 44em; margin: 0; }
.findings { max-width: 52em; margin: 22px 0 0; padding: 0 0 0 18px;
  border-left: 3px solid var(--good); }
.findings.some { border-color: var(--bad); }
.findings p { margin: 0; } .findings ul { margin: 4px 0 0; padding-left: 1.1em; }
h2 { font-size: 27px; line-height: 1.2; font-weight: 600; margin: 68px 0 8px; }
h3 { font-size: 19px; font-weight: 600; font-style: italic; margin: 44px 0 0; }
.lead { color: var(--text); max-width: 44em; margin: 0 0 20px; }
figure { margin: 0; min-width: 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; font-family: var(--sans); }
svg image { image-rendering: pixelated; }
.panels { display: grid; grid-template-columns: 1fr 1fr; gap: 34px 44px; margin-top: 26px; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr));
  gap: 34px 40px; margin-top: 18px; }
.title { display: flex; justify-content: space-between; align-items: baseline; gap: 12px;
  font: 600 14.5px/1.4 var(--sans); border-top: 1px solid var(--rule); padding: 9px 0 4px; }
.title span { font-weight: 400; color: var(--text); font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.title i { font-style: normal; color: var(--line); margin-right: 7px; }
figcaption { font-size: 15px; line-height: 1.5; margin-top: 8px; }
figcaption code { color: var(--text); }
.note, .missing { font: 13px/1.45 var(--sans); color: var(--text); margin: 4px 0 0; }
.missing { border: 1px dashed var(--rule); padding: 64px 16px; text-align: center; }
code, pre { font-family: var(--mono); font-size: 13px; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; }
.outcome { --line: var(--blue); } .policy { --line: var(--teal); }
.mismatch { --line: var(--rust); } .correction { --line: var(--plum); }
.optimization { --line: var(--slate); } .speed { --line: var(--slate); }
.other { --line: var(--slate); }
.task { border-top: 1px solid var(--rule); padding: 18px 0 26px; }
.task h3 { font: 600 14.5px/1.4 var(--sans); margin: 0 0 10px; overflow-wrap: anywhere; }
.prompt { border-left: 3px solid var(--rule); padding: 2px 0 2px 14px; margin-bottom: 14px;
  max-height: 15em; overflow: auto; }
.answers { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }
.answer { background: var(--well); border-top: 3px solid var(--text); padding: 10px 14px 14px;
  min-width: 0; }
.answer.right { border-color: var(--good); } .answer.wrong { border-color: var(--bad); }
.answer header { border: 0; padding: 0 0 8px; font: 13px/1.4 var(--sans); color: var(--text); }
.answer b { color: var(--ink); } .right b.mark { color: var(--good); }
.wrong b.mark { color: var(--bad); }
.answer pre { max-height: 24em; overflow: auto; }
.answer .note { margin-top: 10px; border-top: 1px solid var(--rule); padding-top: 8px; }
.drift { border-collapse: collapse; width: 100%; font: 14px/1.5 var(--sans); }
.drift th { text-align: left; font-weight: 600; color: var(--text); }
.drift th, .drift td { border-top: 1px solid var(--rule); padding: 8px 18px 8px 0;
  vertical-align: top; overflow-wrap: anywhere; }
.drift td:last-child { font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { grid-column: 1 / -1; }
.title .legend { white-space: normal; text-align: right; }
.legend b { font-weight: 600; color: var(--line); margin-left: 14px; }
.legend b.other { color: var(--other); }
.episode { padding: 14px 0; } .episode + .episode { border-top: 0; }
.episode summary span, .folded summary { font-weight: 400; color: var(--text); }
.episode summary span { margin-left: 8px; overflow-wrap: anywhere; }
.stage { display: grid; grid-template-columns: 150px minmax(0, 1fr); gap: 8px 24px;
  border-top: 1px solid var(--grid); padding: 14px 0; margin-top: 12px; }
.stage + .stage { margin-top: 0; }
.stage h4 { font: 600 14.5px/1.5 var(--sans); margin: 0; }
.stage p { font: 14px/1.5 var(--sans); color: var(--text); margin: 0; }
.stage .mark { font: 600 13px/1.5 var(--sans); color: var(--text); }
.episode pre { tab-size: 4; background: none; padding: 0; margin: 0; max-height: 32em;
  overflow: auto; }
.turns { max-height: 46em; overflow: auto; margin-bottom: 10px; }
.turn { border-left: 3px solid var(--rule); padding: 2px 0 2px 14px; margin-bottom: 10px; }
.turn.model { border-color: var(--ink); }
.role { display: block; font: 600 12px/1.6 var(--sans); color: var(--text);
  overflow-wrap: anywhere; }
.told { background: var(--well); padding: 8px 14px 10px; margin-bottom: 10px; }
details .told pre, .told pre { background: none; padding: 0; margin: 0; max-height: 24em;
  overflow: auto; tab-size: 4; }
.folded { border: 0; padding: 0 0 10px; } .folded summary { font-size: 13px; }
.folded pre { background: var(--well); padding: 8px 14px; }
details { border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule);
  padding: 12px 0; }
summary { cursor: pointer; font: 600 14.5px/1.5 var(--sans); }
details pre { background: var(--well); padding: 16px 18px; margin-top: 12px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 28px; margin: 18px 0 0;
  font-size: 15px; }
dt { font: 14px/1.7 var(--sans); color: var(--text); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 720px) {
  body { padding: 36px 18px 64px; font-size: 16px; }
  h1 { font-size: 30px; } h2 { font-size: 23px; margin-top: 52px; } .verdict { font-size: 18px; }
  .panels, .answers, .curves, .stage, .subject, .constants dl
  { grid-template-columns: minmax(0, 1fr); }
  .panels { gap: 28px; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 10px; }
}
@media print { body { max-width: none; padding: 0; } .task, figure { break-inside: avoid; }
  .turns, .episode pre { max-height: none; } }
"""
