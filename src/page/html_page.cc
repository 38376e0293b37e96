// HtmlPage: the style sheet, and what every page begins and ends with.
#include "src/page/html_page.h"

namespace outrigger {
namespace {

constexpr std::string_view kPageStyle = R"(*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",Arial,sans-serif}
main{max-width:1160px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:28px;line-height:1.25;font-weight:650;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;font-weight:650;margin:44px 0 12px}
p.under{margin:0 0 28px;color:var(--soft)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:14px;margin:0 0 30px}
.figure{background:var(--panel);border:1px solid var(--rule);border-radius:10px;padding:14px 16px}
.figure b{display:block;font-size:22px;font-weight:650;letter-spacing:-.01em}
.figure span{color:var(--soft);font-size:13px}
figure{margin:0 0 20px;background:var(--page);border:1px solid var(--rule);border-radius:10px;padding:20px 22px;overflow-x:auto}
figure svg{display:block;width:100%;min-width:760px;height:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{font-weight:600;color:var(--soft);font-size:13px}
th,td{text-align:right;padding:5px 12px;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;overflow-wrap:anywhere}
td.mode::before{content:"";display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:7px;background:var(--host)}
td.mode.streamed::before{background:var(--disk)}
td.mode.device::before{background:var(--device)}
td.mode.device.streamed::before{background:var(--link)}
.scroll{overflow-x:auto}
.meter{display:block;width:220px;height:9px;border-radius:3px;background:var(--track);margin-left:auto}
.meter i{display:block;height:100%;border-radius:3px;background:var(--host)}
pre{background:var(--panel);border:1px solid var(--rule);border-radius:10px;padding:16px 18px;overflow-x:auto;
font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
details summary{cursor:pointer;font-size:18px;font-weight:650;margin:44px 0 12px}
details summary span{color:var(--soft);font-weight:400;font-size:14px}
@media print{details>*{display:block}}
)";

}  // namespace

HtmlPage::HtmlPage(std::string_view headline, std::string_view under, std::string_view style) {
  add(R"(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{}</title>
<style>
:root{{{}}}
@media (prefers-color-scheme:dark){{:root{{{}}}}}
{}{}{}</style>
</head>
<body>
<main>
)",
      markup_text(headline), light_colours(), dark_colours(), kPageStyle, drawing_style(), style);
  add("<h1>{}</h1>\n<p class=\"under\">{}</p>\n", markup_text(headline), markup_text(under));
}

void HtmlPage::figure(std::string_view value, std::string_view of) {
  add("<div class=\"figure\"><b>{}</b><span>{}</span></div>\n", markup_text(value), markup_text(of));
}

void HtmlPage::drawing(const Drawing& drawing) {
  // Two units more at both sides: bold letters reach a little beyond where a text ends.
  add("<figure><svg class=\"plan\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-2 0 {:.0f} {:.0f}\" "
      "role=\"img\"><title>{}</title>\n{}</svg></figure>\n",
      Canvas::kWidth + 4, drawing.height, markup_text(drawing.title), drawing.elements);
}

std::string HtmlPage::close() {
  add("</main>\n</body>\n</html>\n");
  return std::move(html_);
}

}  // namespace outrigger
