#include "report/look.h"

#include "plot/canvas.h"

namespace fastkv::report {

namespace {

constexpr const char* light = R"(--page: #fff; --card: #f7f7f5; --ink: #1c1c1c; --quiet: #5c5c5c; --edge: #d9d9d4;
  --link: #0b5cad; --better: #10683f; --worse: #a8270f; --alert: #fdf0e6; color-scheme: light;)";
constexpr const char* dark = R"(--page: #16181c; --card: #1e2126; --ink: #e4e4e0; --quiet: #a6a8ab; --edge: #383c43;
  --link: #7db8f0; --better: #5fd39a; --worse: #ff9a80; --alert: #33261c; color-scheme: dark;)";

constexpr const char* rules = R"(
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem clamp(0.8rem, 3vw, 2rem) 4rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif;
  overflow-wrap: break-word; }
a { color: var(--link); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.3rem 0; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 2.6rem 0 0.4rem; padding-top: 1rem; border-top: 2px solid var(--edge); }
h3 { font-size: 1.15rem; margin: 2rem 0 0.4rem; }
h4 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
p { margin: 0.4rem 0; max-width: 46rem; }
.quiet { color: var(--quiet); }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: 0.4rem; background: var(--page); padding: 0.3rem 0.6rem; }
header { position: relative; padding-right: 9rem; }
#theme { position: absolute; right: 0; top: 0.3rem; font: inherit; font-size: 0.9rem; padding: 0.3rem 0.8rem;
  border: 1px solid var(--edge); border-radius: 0.4rem; background: var(--card); color: var(--ink); cursor: pointer; }
nav ul { list-style: none; margin: 0.6rem 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; }
.alert { background: var(--alert); border-left: 4px solid var(--worse); padding: 0.6rem 1rem; margin: 1rem 0; }
.alert h2 { border: 0; margin: 0; padding: 0; font-size: 1.05rem; }
.alert ul { margin: 0.3rem 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: 0.8rem 0; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: 0.3rem; white-space: nowrap; }
th, td { padding: 0.22rem 0.7rem; text-align: right; border-bottom: 1px solid var(--edge); white-space: nowrap;
  vertical-align: top; }
th:first-child, td.words, th.heading { text-align: left; }
tbody th { font-weight: 500; white-space: normal; min-width: 8rem; max-width: 22rem; }
tbody th.long { min-width: 15rem; }
tbody th.heading { padding-top: 0.9rem; font-weight: 700; max-width: none; }
details th, details td { text-align: left; }
td.words { white-space: pre-wrap; min-width: 14rem; max-width: 30rem; }
thead th { font-weight: 600; white-space: normal; border-bottom: 2px solid var(--edge); vertical-align: bottom; }
.better { color: var(--better); font-weight: 600; }
.worse { color: var(--worse); font-weight: 600; }
details { margin: 0.7rem 0; border: 1px solid var(--edge); border-radius: 0.4rem; padding: 0.3rem 0.9rem; }
summary { cursor: pointer; font-weight: 500; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; font-size: 0.9rem; margin: 0.6rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; white-space: pre-wrap; }
.flag { white-space: nowrap; }
code, dd.code { font-family: ui-monospace, 'DejaVu Sans Mono', Consolas, monospace; font-size: 0.85rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0.6rem 1.4rem; }
.plots.small { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
figure { margin: 0.5rem 0; min-width: 0; overflow-x: auto; }
figcaption { font-size: 0.9rem; font-weight: 600; }
svg.plot { display: block; max-width: 100%; height: auto; }
svg.plot text { font-family: inherit; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 40rem) {
  body { font-size: 15px; } header { padding-right: 0; } #theme { position: static; margin-top: 0.4rem; }
  caption { white-space: normal; } dl { grid-template-columns: 1fr; } dd { margin-bottom: 0.4rem; }
}
@media print {
  body { max-width: none; font-size: 10pt; padding: 0; } #theme, nav, .skip { display: none; }
  .scroll, figure { overflow: visible; } tr, figure { break-inside: avoid; } h2, h3, h4 { break-after: avoid; }
}
)";

}  // namespace

std::string style_sheet() {
    const std::string chosen_dark = ":root[data-theme=dark]", not_light = ":root:not([data-theme=light])";
    std::string css = std::string(":root { ") + light + " }\n" + plot::palette_css(false, ".plot ") + "\n";
    css += chosen_dark + " { " + dark + " }\n" + plot::palette_css(true, chosen_dark + " .plot ") + "\n";
    // Paper is white whatever the screen is.
    css += "@media screen and (prefers-color-scheme: dark) {\n" + not_light + " { " + dark + " }\n" +
           plot::palette_css(true, not_light + " .plot ") + "\n}\n";
    css += std::string("@media print {\n") + chosen_dark + ", :root { " + light + " }\n" +
           plot::palette_css(false, chosen_dark + " .plot ") + "\n}\n";
    return css + rules;
}

std::string script() {
    return R"(
const root = document.documentElement, button = document.getElementById('theme');
const dark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
const show = () => { button.textContent = dark() ? 'Light colours' : 'Dark colours'; };
try { root.dataset.theme = localStorage.getItem('fastkv-theme') || ''; } catch (error) { }
button.hidden = false;
button.onclick = () => {
  root.dataset.theme = dark() ? 'light' : 'dark';
  try { localStorage.setItem('fastkv-theme', root.dataset.theme); } catch (error) { }
  show();
};
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(part => { part.open = true; }));
show();
)";
}

}  // namespace fastkv::report
