// plan_to_svg: the drawings below each other in one file.
#include <outrigger/plan.h>

#include <new>

#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/plan/plan_drawings.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr double kMargin = 36, kGap = 34, kHeader = 66;

}  // namespace

Result<std::string> plan_to_svg(const Plan& plan, const StepShape& shape, const MachineProfile& machine) try {
  OTR_ASSIGN(const std::vector<Drawing> drawings, draw_plan(plan, shape, machine));
  double height = kHeader + kMargin;
  for (const Drawing& drawing : drawings) height += drawing.height + kGap;
  const double width = Canvas::kWidth + 2 * kMargin;

  std::string svg = formatted(
      R"(<svg xmlns="http://www.w3.org/2000/svg" class="plan" viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" height="{1:.0f}" role="img">
<title>{2}</title>
<style>
svg.plan{{{3}}}
@media (prefers-color-scheme:dark){{svg.plan{{{4}}}}}
{5}</style>
)",
      width, height, markup_text(headline(plan)), light_colours(), dark_colours(), drawing_style());
  Canvas header;
  header.rect(0, 0, width, height, "page");
  header.text(kMargin, 46, "headline", headline(plan));
  header.text(kMargin, 70, "soft", workload_text(plan) + (machine.machine.empty() ? "" : ". " + shortened(machine.machine, 110)));
  svg += header.elements();
  double y = kHeader + kMargin;
  for (const Drawing& drawing : drawings) {
    svg += formatted("<g transform=\"translate({:.0f} {:.0f})\"><title>{}</title>\n{}</g>\n", kMargin, y, markup_text(drawing.title),
                     drawing.elements);
    y += drawing.height + kGap;
  }
  return svg + "</svg>\n";
} catch (const std::bad_alloc&) {
  return Status(StatusCode::kOutOfMemory, "out of memory");
}

}  // namespace outrigger
