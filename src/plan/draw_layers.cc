// What of each layer is resident: a column for each layer, a row for each kind of matrix.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/base/bytes.h"
#include "src/plan/plan_drawings.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr double kLeft = 168, kRight = 222, kGrid = Canvas::kWidth - kLeft - kRight, kRow = 20, kCell = 15;
constexpr size_t kMostRows = 20;  // as many kinds as fit a screen; what more there are is one row

struct Bytes {
  uint64_t resident = 0, streamed = 0;
  void add(const TensorPlacement& tensor) { (tensor.mode == Residence::kResident ? resident : streamed) += tensor.bytes; }
};

struct Row {
  std::string name;
  bool is_of_layers = false;       // else of the head or the embedding, which have no column
  Bytes all;
  std::map<uint32_t, Bytes> by_layer;
};

// "blk.*.ffn_up.weight" -> "ffn_up"
std::string short_name(std::string name) {
  constexpr std::string_view kBegin = "blk.*.", kEnd = ".weight";
  if (name.size() > kBegin.size() && name.starts_with(kBegin)) name.erase(0, kBegin.size());
  if (name.size() > kEnd.size() && name.ends_with(kEnd)) name.resize(name.size() - kEnd.size());
  return name;
}

std::vector<Row> rows_of(const StepShape& shape, const Plan& plan) {
  std::vector<Row> rows;
  const std::vector<TensorGroup> groups = group_tensors(plan);
  for (size_t i = 0; i < groups.size(); ++i) {
    const bool is_rest = groups.size() > kMostRows && i + 1 >= kMostRows;
    if (!is_rest || i + 1 == kMostRows) rows.push_back({is_rest ? fmt::format("{} more kinds", groups.size() - i) : short_name(groups[i].name)});
    for (const uint32_t tensor : groups[i].tensors) {
      rows.back().is_of_layers |= shape.matrices[tensor].use == MatrixUse::kEveryToken;
      rows.back().all.add(plan.tensors[tensor]);
      rows.back().by_layer[shape.matrices[tensor].layer].add(plan.tensors[tensor]);
    }
  }
  return rows;
}

// Streamed, with what is resident standing in it from the bottom up.
void add_cell(Canvas& canvas, double x, double y, double width, const Bytes& bytes, const std::string& what) {
  const double all = static_cast<double>(bytes.resident + bytes.streamed), share = all > 0 ? static_cast<double>(bytes.resident) / all : 1;
  const std::string tooltip = fmt::format("{}\n{} resident, {} streamed", what, format_bytes(bytes.resident), format_bytes(bytes.streamed));
  if (share < 1) canvas.rect(x, y, width, kCell, "disk", tooltip, 1.5);
  if (share > 0) canvas.rect(x, y + kCell * (1 - share), width, kCell * share, "host", tooltip, share < 1 ? 0 : 1.5);
}

void add_row(Canvas& canvas, double y, const Row& row, uint32_t layers) {
  canvas.text(0, y + 12, "", shortened(row.name, 21));
  if (!row.is_of_layers) {
    add_cell(canvas, kLeft, y, kGrid - 1, row.all, row.name);
  } else {
    const double column = kGrid / layers, width = std::max(0.5, column - (column > 4 ? 1 : 0));
    for (const auto& [layer, bytes] : row.by_layer) add_cell(canvas, kLeft + layer * column, y, width, bytes, fmt::format("{}, layer {}", row.name, layer));
  }
  canvas.text(Canvas::kWidth - 112, y + 12, "right", bytes_or_none(row.all.resident));
  canvas.text(Canvas::kWidth, y + 12, "right", bytes_or_none(row.all.streamed));
}

void add_columns(Canvas& canvas, double y, uint32_t layers) {
  const double column = kGrid / layers;
  // Labels that stand at least 40 units apart.
  uint32_t every = 1;
  for (const uint32_t next : {2u, 5u, 10u, 20u, 50u, 100u, 1000u, 10000u}) {
    if (every * column < 40) every = next;
  }
  for (uint32_t layer = 0; layer < layers; layer += every) {
    canvas.text(kLeft + (layer + 0.5) * column, y, "soft small middle", fmt::to_string(layer));
  }
}

}  // namespace

Drawing draw_layers(const StepShape& shape, const Plan& plan) {
  const std::vector<Row> rows = rows_of(shape, plan);
  uint32_t layers = 1;
  for (const Row& row : rows) {
    if (row.is_of_layers) layers = std::max(layers, row.by_layer.rbegin()->first + 1);
  }
  Canvas canvas;
  canvas.text(0, 16, "title", "Where each matrix lives, by layer");
  canvas.text(0, 42, "soft small", "layer");
  canvas.rect(Canvas::kWidth - 112 - 64, 32, 11, 11, "host", {}, 2);
  canvas.text(Canvas::kWidth - 112, 42, "soft small right", "resident");
  canvas.rect(Canvas::kWidth - 72, 32, 11, 11, "disk", {}, 2);
  canvas.text(Canvas::kWidth, 42, "soft small right", "streamed");
  add_columns(canvas, 42, layers);
  double y = 52;
  Bytes all;
  for (const Row& row : rows) {
    add_row(canvas, y, row, layers);
    all.resident += row.all.resident;
    all.streamed += row.all.streamed;
    y += kRow;
  }
  canvas.line(0, y + 2, Canvas::kWidth, y + 2, "rule");
  canvas.text(0, y + 20, "strong", "all");
  canvas.text(Canvas::kWidth - 112, y + 20, "right strong", bytes_or_none(all.resident));
  canvas.text(Canvas::kWidth, y + 20, "right strong", bytes_or_none(all.streamed));
  return {fmt::format("By layer: {} resident, {} streamed", format_bytes(all.resident), format_bytes(all.streamed)), y + 28, canvas.elements()};
}

}  // namespace outrigger
