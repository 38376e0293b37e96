// HtmlPage: a page of figures, drawings and tables that needs nothing but itself.
#ifndef OUTRIGGER_SRC_PAGE_HTML_PAGE_H_
#define OUTRIGGER_SRC_PAGE_HTML_PAGE_H_

#include <string>
#include <string_view>
#include <utility>

#include "src/base/formatted.h"
#include "src/page/canvas.h"

namespace outrigger {

/// Texts are escaped here, but for those that add() is given.
class HtmlPage {
 public:
  /// `under`: a line below the headline. `style`: more rules, for what this page alone has.
  HtmlPage(std::string_view headline, std::string_view under, std::string_view style = {});

  void begin_figures() { html_ += "<div class=\"figures\">\n"; }
  void figure(std::string_view value, std::string_view of);
  void end_figures() { html_ += "</div>\n"; }
  void drawing(const Drawing& drawing);

  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    append_formatted(&html_, format, std::forward<Args>(args)...);
  }
  /// The whole page. Nothing may be added afterwards.
  std::string close();

 private:
  std::string html_;
};

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_PAGE_HTML_PAGE_H_
