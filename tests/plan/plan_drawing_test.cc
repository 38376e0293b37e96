// plan_to_svg and plan_to_html: what is drawn, what is escaped, and that a large plan is not a large picture. Writes what check_drawings.py
// reads.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "src/page/canvas.h"
#include "tests/support/random_shape.h"
#include "tests/support/catch.h"

namespace outrigger {
namespace {

// What an attacker, or a careless converter, would call a tensor.
const char* const kEvilNames[] = {"</text><script>alert(1)</script>",
                                  "a \"quoted\" & 'single' <name>",
                                  "]]>",
                                  "tab\tnewline\nnul",
                                  "\xff\xfe\xc0\x80",
                                  "\xed\xa0\x80",
                                  "\xf0\x9f\x9a\xa3 \xc3\xa9t\xc3\xa9",
                                  "--><!--",
                                  "&amp;",
                                  "a.very.long.name.that.goes.on.and.on.and.on.and.on.weight"};

std::string svg_of(const Plan& plan, const StepShape& shape, const MachineProfile& machine) {
  const Result<std::string> svg = plan_to_svg(plan, shape, machine);
  INFO(svg.status().to_string());
  REQUIRE(svg.is_ok());
  return svg.value();
}

std::string html_of(const Plan& plan, const StepShape& shape, const MachineProfile& machine) {
  const Result<std::string> html = plan_to_html(plan, shape, machine);
  INFO(html.status().to_string());
  REQUIRE(html.is_ok());
  return html.value();
}

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) ++found;
  return found;
}

TEST_CASE("Canvas: text is safe in markup, whatever it is") {
  REQUIRE(markup_text("a<b>&\"c\"'d'") == "a&lt;b&gt;&amp;&quot;c&quot;&#39;d&#39;");
  REQUIRE(markup_text("\xf0\x9f\x9a\xa3 \xc3\xa9 \xe2\x82\xac") == "\xf0\x9f\x9a\xa3 \xc3\xa9 \xe2\x82\xac");
  const std::string replaced = "\xEF\xBF\xBD";
  for (const std::string& bad : {std::string("\xff"), std::string("\x01"), std::string(1, '\0'), std::string("\x7f"),
                                 std::string("\xc2\x85"), std::string("\xef\xbf\xbe"), std::string("\t")}) {
    CAPTURE(bad);
    const std::string text = markup_text("a" + bad + "b");
    REQUIRE(text.front() == 'a');
    REQUIRE(text.back() == 'b');
    REQUIRE(text.substr(1, 3) == replaced);
  }
  REQUIRE(markup_text("\xc0\x80") == replaced + replaced);            // overlong
  REQUIRE(markup_text("\xed\xa0\x80") == replaced + replaced + replaced);  // a surrogate
  REQUIRE(markup_text("\xe2\x82") == replaced + replaced);            // cut off
}

TEST_CASE("Canvas: text is shortened by characters, not bytes") {
  REQUIRE(shortened("abcdef", 6) == "abcdef");
  REQUIRE(shortened("abcdefg", 6) == "abcde\xE2\x80\xA6");
  REQUIRE(shortened("\xc3\xa9\xc3\xa9\xc3\xa9", 3) == "\xc3\xa9\xc3\xa9\xc3\xa9");
  REQUIRE(shortened("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 3) == "\xc3\xa9\xc3\xa9\xE2\x80\xA6");
  REQUIRE(shortened("\xff\xff\xff", 2) == "\xff\xE2\x80\xA6");
}

TEST_CASE("plan drawings: random plans with names from anywhere, for check_drawings.py") {
  const std::filesystem::path folder = OTR_DRAWINGS_DIR;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  int drawn = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    StepShape shape = random_shape(random);
    const MachineProfile machine = random_machine(random);
    const Workload workload = random_workload(random);
    if (seed % 3 == 0) {
      for (MatrixShape& matrix : shape.matrices) matrix.name += kEvilNames[pick(random, 0, std::size(kEvilNames) - 1)];
    }
    const uint64_t budget =
        seed % 5 == 0 ? 0 : PlacementPlanner::plan(shape, machine, {1}, workload).status().needed_bytes() + pick(random, 0, 1 << 22);
    const Result<Plan> plan = PlacementPlanner::plan(shape, machine, {budget}, workload);
    if (!plan.is_ok()) continue;
    std::ofstream(folder / (std::to_string(seed) + ".svg"), std::ios::binary) << svg_of(plan.value(), shape, machine);
    std::ofstream(folder / (std::to_string(seed) + ".html"), std::ios::binary) << html_of(plan.value(), shape, machine);
    ++drawn;
  }
  REQUIRE(drawn >= 50);
  int with_device = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    Random random(seed);
    const StepShape shape = random_shape(random);
    MachineProfile machine = random_machine(random);
    add_random_device(random, &machine);
    const Workload workload = random_workload(random);
    const uint64_t budget =
        seed % 5 == 0 ? 0 : PlacementPlanner::plan(shape, machine, {1}, workload).status().needed_bytes() + pick(random, 0, 1 << 22);
    const Result<Plan> plan = PlacementPlanner::plan(shape, machine, {budget}, workload);
    if (!plan.is_ok() || plan.value().device.planned_bytes == 0) continue;
    std::ofstream(folder / ("device-" + std::to_string(seed) + ".svg"), std::ios::binary) << svg_of(plan.value(), shape, machine);
    std::ofstream(folder / ("device-" + std::to_string(seed) + ".html"), std::ios::binary) << html_of(plan.value(), shape, machine);
    ++with_device;
  }
  REQUIRE(with_device >= 10);
  const Plan plan = PlacementPlanner::plan(small_model(), two_cores(), {64 << 20}, {}).value();
  std::ofstream(folder / "small.svg", std::ios::binary) << svg_of(plan, small_model(), two_cores());
  std::ofstream(folder / "small.html", std::ios::binary) << html_of(plan, small_model(), two_cores());
}

TEST_CASE("plan drawings: say what the plan says") {
  const StepShape shape = small_model();
  const MachineProfile machine = two_cores();
  const Plan plan = PlacementPlanner::plan(shape, machine, {64 << 20}, {}).value();
  const std::string svg = svg_of(plan, shape, machine), html = html_of(plan, shape, machine);
  for (const std::string& text : {svg, html}) {
    REQUIRE(text.find("bound by the " + plan.binding_lane) != std::string::npos);
    REQUIRE(text.find("test machine") != std::string::npos);
    for (const char* word : {">disk<", ">host<", ">ring<", ">binds<", ">token_embd<", ">ffn_gate<", "resident weights ",
                             "KV cache 14.1 MiB", "activations ", "Decoding 1 token, after 576 others", "of the prompt"}) {
      CAPTURE(word);
      REQUIRE(text.find(word) != std::string::npos);
    }
    REQUIRE(text.find("prefers-color-scheme:dark") != std::string::npos);
  }
  // Every unit is read once, and a bar of its own or part of one.
  REQUIRE(count(svg, "fetch unit ") > 40);
  REQUIRE(html.find(markup_text(plan_to_text(plan))) != std::string::npos);
  for (const PlanAlternative& other : plan.alternatives) REQUIRE(html.find(other.what) != std::string::npos);
  for (const TensorPlacement& tensor : plan.tensors) REQUIRE(html.find("<td>" + tensor.name + "</td>") != std::string::npos);
  REQUIRE(count(html, "<svg ") == 4);
  REQUIRE(html.find("<script") == std::string::npos);
}

TEST_CASE("plan drawings: say what a device does, holds and is sent") {
  const StepShape shape = small_model();
  MachineProfile machine = with_device(two_cores(), 40 << 20);
  machine.host_int8_ops.per_s = 100e9;
  const Plan plan = PlacementPlanner::plan(shape, machine, {uint64_t{1} << 30}, workload_of(4000, 1)).value();
  REQUIRE(plan.device.planned_bytes > 0);
  REQUIRE(plan.device_slots > 0);
  const std::string svg = svg_of(plan, shape, machine), html = html_of(plan, shape, machine);
  for (const std::string& text : {svg, html}) {
    for (const char* word : {">device<", ">to device<", ">to host<", ">its ring<", "bring unit ", "residual to the device",
                             "products on the device", "on the device"}) {
      CAPTURE(word);
      REQUIRE(text.find(word) != std::string::npos);
    }
  }
  REQUIRE(html.find("device memory") != std::string::npos);
  REQUIRE(html.find("without the device") != std::string::npos);
  // Of a machine without one it cannot be drawn.
  REQUIRE(plan_to_svg(plan, shape, two_cores()).status().code() == StatusCode::kInvalidArgument);
}

TEST_CASE("plan drawings: keys and values on disk are told and played") {
  Workload workload = workload_of(4000, 100);
  workload.kv_spilled_layers = 20;
  const Plan plan = PlacementPlanner::plan(small_model(), two_cores(), {80 << 20}, workload).value();
  const std::string html = plan_to_html(plan, small_model(), two_cores()).value(), text = plan_to_text(plan);
  for (const std::string& said : {html, text}) CHECK(said.find("eys and values of 20 of 30 layers") != std::string::npos);
  CHECK(html.find("fetch keys and values, layer 29") != std::string::npos);
  CHECK(html.find("store keys and values, layer 29") != std::string::npos);
  CHECK(text.find("disk bytes") != std::string::npos);
}

TEST_CASE("plan drawings: without a prompt or a ring there is nothing to draw of them") {
  const StepShape shape = small_model();
  const Plan plan = PlacementPlanner::plan(shape, two_cores(), {0}, workload_of(0, 10)).value();
  const std::string svg = svg_of(plan, shape, two_cores());
  REQUIRE(svg.find("of the prompt") == std::string::npos);
  REQUIRE(svg.find(">ring<") == std::string::npos);
  REQUIRE(svg.find(">idle<") != std::string::npos);
  REQUIRE(svg.find("no limit") != std::string::npos);
}

TEST_CASE("plan drawings: a plan of 13,000 matrices is a picture that a browser opens at once") {
  StepShape shape = small_model();
  shape.matrices.clear();
  for (uint32_t layer = 0; layer < 100; ++layer) {
    for (uint32_t expert = 0; expert < 130; ++expert) {
      shape.matrices.push_back(matrix_of("blk." + std::to_string(layer) + ".ffn." + std::to_string(expert) + ".weight", 1024, 1024));
      shape.matrices.back().layer = layer;
      shape.matrices.back().window = layer;
    }
  }
  const Plan plan = PlacementPlanner::plan(shape, two_cores(), {uint64_t{4} << 30}, {}).value();
  const auto begin = std::chrono::steady_clock::now();
  const std::string svg = svg_of(plan, shape, two_cores());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  CHECK(svg.size() < 1500000);
  CHECK(seconds < 2);  // 40 ms, where nobody else works
  CHECK(count(svg, "<rect") < 6000);
}

TEST_CASE("plan drawings: what is no plan for the shape, or no machine, is refused") {
  const StepShape shape = small_model();
  const Plan plan = PlacementPlanner::plan(shape, two_cores(), {64 << 20}, {}).value();
  Plan other = plan;
  other.tensors[3].name = "another";
  MachineProfile broken = two_cores();
  broken.host_repack_bytes.per_s = -1;
  for (const auto draw : {&plan_to_svg, &plan_to_html}) {
    REQUIRE(draw(other, shape, two_cores()).status().code() == StatusCode::kInvalidArgument);
    REQUIRE(draw(plan, shape, broken).status().code() == StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace outrigger
