// Canvas: SVG elements, escaping, and the style sheet.
#include "src/page/canvas.h"

#include <cstdint>

#include "src/base/formatted.h"

namespace outrigger {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes of the UTF-8 character that `text` begins with; 0 when it begins with none, or with one that XML cannot hold.
size_t character_bytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(0);
  if (first < 0x80) return first >= 0x20 && first != 0x7f ? 1 : 0;
  const size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < bytes) return 0;
  uint32_t code = first & (0x7f >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  const bool is_overlong = code < (bytes == 2 ? 0x80u : bytes == 3 ? 0x800u : 0x10000u);
  const bool is_surrogate = code >= 0xd800 && code < 0xe000, is_control = code < 0xa0, is_none = (code & 0xfffe) == 0xfffe;
  return is_overlong || is_surrogate || is_control || is_none || code > 0x10ffff ? 0 : bytes;
}

}  // namespace

std::string markup_text(std::string_view text) {
  std::string safe;
  safe.reserve(text.size());
  while (!text.empty()) {
    const size_t bytes = character_bytes(text);
    switch (text[0]) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      case '\'': safe += "&#39;"; break;
      case '\n': safe += '\n'; break;
      default: safe += bytes == 0 ? kReplacement : text.substr(0, bytes);
    }
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return safe;
}

std::string shortened(std::string_view text, size_t most) {
  size_t end = 0, cut = 0;
  for (size_t characters = 0; end < text.size(); ++characters) {
    if (characters + 1 == most) cut = end;
    if (characters == most) return std::string(text.substr(0, cut)) + "\xE2\x80\xA6";
    const size_t bytes = character_bytes(text.substr(end));
    end += bytes == 0 ? 1 : bytes;
  }
  return std::string(text);
}

std::string percent_text(double part) { return formatted("{:.{}f} %", 100 * part, part > 0 && part < 0.0995 ? 1 : 0); }

void Canvas::rect(double x, double y, double width, double height, std::string_view style, std::string_view tooltip, double radius) {
  append_formatted(&elements_, R"(<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}")", style, x, y, width, height);
  if (radius > 0) append_formatted(&elements_, R"( rx="{:.1f}")", radius);
  if (tooltip.empty()) {
    elements_ += "/>\n";
  } else {
    append_formatted(&elements_, "><title>{}</title></rect>\n", markup_text(tooltip));
  }
}

void Canvas::line(double x1, double y1, double x2, double y2, std::string_view style) {
  append_formatted(&elements_, R"(<line class="{}" x1="{:.2f}" y1="{:.2f}" x2="{:.2f}" y2="{:.2f}"/>)" "\n", style, x1, y1, x2, y2);
}

void Canvas::path(std::string_view path, std::string_view style) {
  append_formatted(&elements_, R"(<path class="{}" d="{}"/>)" "\n", style, path);
}

void Canvas::text(double x, double y, std::string_view style, std::string_view text) {
  append_formatted(&elements_, R"(<text class="{}" x="{:.2f}" y="{:.2f}">{}</text>)" "\n", style, x, y, markup_text(text));
}

// What comes from the disk is amber wherever it appears, what stays in memory blue, keys and values violet; what is the device's is green,
// and what goes to it or comes from it red.
std::string_view light_colours() {
  return R"(--page:#ffffff;--panel:#f7f8fa;--track:#eceff3;--rule:#dfe4ea;--ink:#17212b;--soft:#5b6875;
--disk:#f0a02c;--disk2:#d98712;--host:#3f7fd6;--host2:#2c63b4;--attention:#8a63d2;--head:#d6568c;--rows:#7b8794;
--activations:#35a08f;--device:#4d9a3f;--device2:#3a7a30;--link:#b5563f;--other:#9aa5b1;--bind:#b45309;)";
}

std::string_view dark_colours() {
  return R"(--page:#0f151b;--panel:#161e26;--track:#202a34;--rule:#2b3640;--ink:#e6ebf0;--soft:#9aa7b4;
--disk:#e39a33;--disk2:#bf7a1c;--host:#5b95e5;--host2:#3f76c4;--attention:#a184e0;--head:#e0729f;--rows:#8b98a5;
--activations:#46b3a1;--device:#68b35a;--device2:#4c9040;--link:#d0735c;--other:#6f7b87;--bind:#f2b35a;)";
}

std::string_view drawing_style() {
  return R"(svg.plan{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",Arial,sans-serif;font-size:13px}
svg.plan text{fill:var(--ink)}
svg.plan .soft{fill:var(--soft)}svg.plan .small{font-size:11.5px}svg.plan .strong{font-weight:600}svg.plan .title{font-size:16px;font-weight:600}
svg.plan .headline{font-size:22px;font-weight:650}svg.plan .bind{fill:var(--bind);font-weight:600}
svg.plan .right{text-anchor:end}svg.plan .middle{text-anchor:middle}
svg.plan .inside{fill:#fff;font-size:11.5px;pointer-events:none}
svg.plan .page{fill:var(--page)}svg.plan .track{fill:var(--track)}svg.plan .rule{stroke:var(--rule);stroke-width:1;fill:none}
svg.plan .edge{stroke:var(--soft);stroke-width:1;fill:none}svg.plan .limit{stroke:var(--ink);stroke-width:1.5;fill:none}
svg.plan .disk{fill:var(--disk)}svg.plan .disk2{fill:var(--disk2)}svg.plan .host{fill:var(--host)}svg.plan .host2{fill:var(--host2)}
svg.plan .attention{fill:var(--attention)}svg.plan .head{fill:var(--head)}svg.plan .rows{fill:var(--rows)}
svg.plan .activations{fill:var(--activations)}svg.plan .other{fill:var(--other)}svg.plan .ring{fill:var(--disk);opacity:.35}
svg.plan .device{fill:var(--device)}svg.plan .device2{fill:var(--device2)}svg.plan .link{fill:var(--link)}svg.plan .linkring{fill:var(--link);opacity:.35}
)";
}

}  // namespace outrigger
