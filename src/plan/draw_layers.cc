// What of each layer is resident: a column for each layer, a row for each kind of matrix.
#include <algorithm>
#include <array>
#include <map>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/plan/plan_drawings.h"
#include "src/plan/plan_words.h"

namespace outrigger {
namespace {

constexpr double kLeft = 168, kRow = 20, kCell = 15;
constexpr size_t kMostRows = 20;  // as many kinds as fit a screen; what more there are is one row

using Place = TensorGroup::Place;

// By place, in the order in which a cell is filled from the bottom up.
struct Bytes {
  std::array<uint64_t, TensorGroup::kPlaces> at{};

  void add(const TensorPlacement& tensor) { at[TensorGroup::place_of(tensor)] += tensor.bytes; }
  uint64_t total() const { return at[Place::kHost] + at[Place::kDisk] + at[Place::kDevice] + at[Place::kLink]; }
};

// A device's places are told only where there is one.
struct Column {
  Place place;
  const char *style, *name;
};
std::vector<Column> columns_of(const Plan& plan) {
  if (!uses_device(plan)) return {{Place::kHost, "host", "resident"}, {Place::kDisk, "disk", "streamed"}};
  return {{Place::kHost, "host", "host"},
          {Place::kDevice, "device", "device"},
          {Place::kLink, "link", "to device"},
          {Place::kDisk, "disk", "from disk"}};
}

std::string words_of(const std::vector<Column>& columns, const Bytes& bytes) {
  std::string words;
  for (const Column& column : columns)
    words += formatted("{}{} {}", words.empty() ? "" : ", ", format_bytes(bytes.at[column.place]), column.name);
  return words;
}

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
    if (!is_rest || i + 1 == kMostRows)
      rows.push_back({is_rest ? formatted("{} more kinds", groups.size() - i) : short_name(groups[i].name)});
    for (const uint32_t tensor : groups[i].tensors) {
      rows.back().is_of_layers |= shape.matrices[tensor].use == MatrixUse::kEveryToken;
      rows.back().all.add(plan.tensors[tensor]);
      rows.back().by_layer[shape.matrices[tensor].layer].add(plan.tensors[tensor]);
    }
  }
  return rows;
}

// The grid's right edge: further left where there are more sums to tell.
double right_of(const std::vector<Column>& columns) { return 110.0 * static_cast<double>(columns.size()) + 2; }
double grid_of(const std::vector<Column>& columns) { return Canvas::kWidth - kLeft - right_of(columns); }

// What there is of each place, one standing on the other.
void add_cell(Canvas& canvas, double x, double y, double width, const std::vector<Column>& columns, const Bytes& bytes,
              const std::string& what) {
  const std::string tooltip = formatted("{}\n{}", what, words_of(columns, bytes));
  const uint64_t all = bytes.total();
  if (all == 0) return;
  double bottom = y + kCell;
  for (const Column& column : columns) {
    const uint64_t part = bytes.at[column.place];
    if (part == 0) continue;
    const double height = kCell * static_cast<double>(part) / static_cast<double>(all);
    canvas.rect(x, bottom - height, width, height, column.style, tooltip, part == all ? 1.5 : 0);
    bottom -= height;
  }
}

// Sums at the right, a column for each place.
void add_sums(Canvas& canvas, double y, const char* style, const std::vector<Column>& columns, const Bytes& bytes) {
  double x = Canvas::kWidth - 112.0 * static_cast<double>(columns.size() - 1);
  for (const Column& column : columns) {
    canvas.text(x, y, style, bytes_or_none(bytes.at[column.place]));
    x += 112;
  }
}

void add_row(Canvas& canvas, double y, const Row& row, uint32_t layers, const std::vector<Column>& columns) {
  canvas.text(0, y + 12, "", shortened(row.name, 21));
  const double grid = grid_of(columns);
  if (!row.is_of_layers) {
    add_cell(canvas, kLeft, y, grid - 1, columns, row.all, row.name);
  } else {
    const double column = grid / layers, width = std::max(0.5, column - (column > 4 ? 1 : 0));
    for (const auto& [layer, bytes] : row.by_layer)
      add_cell(canvas, kLeft + layer * column, y, width, columns, bytes, formatted("{}, layer {}", row.name, layer));
  }
  add_sums(canvas, y + 12, "right", columns, row.all);
}

void add_columns(Canvas& canvas, double y, uint32_t layers, double grid) {
  const double column = grid / layers;
  // Labels that stand at least 40 units apart.
  uint32_t every = 1;
  for (const uint32_t next : {2u, 5u, 10u, 20u, 50u, 100u, 1000u, 10000u}) {
    if (every * column < 40) every = next;
  }
  for (uint32_t layer = 0; layer < layers; layer += every) {
    canvas.text(kLeft + (layer + 0.5) * column, y, "soft small middle", std::to_string(layer));
  }
}

}  // namespace

Drawing draw_layers(const StepShape& shape, const Plan& plan) {
  const std::vector<Row> rows = rows_of(shape, plan);
  uint32_t layers = 1;
  for (const Row& row : rows) {
    if (row.is_of_layers) layers = std::max(layers, row.by_layer.rbegin()->first + 1);
  }
  const std::vector<Column> columns = columns_of(plan);
  Canvas canvas;
  canvas.text(0, 16, "title", "Where each matrix lives, by layer");
  canvas.text(0, 42, "soft small", "layer");
  double right = Canvas::kWidth - 112.0 * static_cast<double>(columns.size() - 1);
  for (const Column& column : columns) {
    canvas.rect(right - Canvas::small_width(column.name) - 16, 32, 11, 11, column.style, {}, 2);
    canvas.text(right, 42, "soft small right", column.name);
    right += 112;
  }
  add_columns(canvas, 42, layers, grid_of(columns));
  double y = 52;
  Bytes all;
  for (const Row& row : rows) {
    add_row(canvas, y, row, layers, columns);
    for (size_t place = 0; place < all.at.size(); ++place) all.at[place] += row.all.at[place];
    y += kRow;
  }
  canvas.line(0, y + 2, Canvas::kWidth, y + 2, "rule");
  canvas.text(0, y + 20, "strong", "all");
  add_sums(canvas, y + 20, "right strong", columns, all);
  return {"By layer: " + words_of(columns, all), y + 28, canvas.elements()};
}

}  // namespace outrigger
