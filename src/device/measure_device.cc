// A device's rates.
#include "src/device/measure_device.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>

#include "src/base/bytes.h"
#include "src/base/formatted.h"
#include "src/base/macros.h"
#include "src/device/host_product.h"
#include "src/device/samples.h"

namespace outrigger {
namespace {

constexpr std::chrono::seconds kPatience{60};  // for what takes milliseconds
constexpr uint64_t kPattern = 64_KiB;

class Measurement {
 public:
  Measurement(Backend& backend, double seconds) : backend_(backend), seconds_(seconds) {}

  /// Samples::collect for work that may fail: submit() -> Status submits work of so much `amount` to the stream.
  template <typename Submit>
  Result<Samples> collect(double amount, Stream stream, Submit submit) {
    constexpr size_t kLeast = 5;
    Samples samples;
    const auto now = [] { return std::chrono::steady_clock::now(); };
    const auto since = [&now](auto start) { return std::chrono::duration<double>(now() - start).count(); };
    const auto begin = now();
    for (bool is_warm = false; samples.count() < kLeast || since(begin) < seconds_; is_warm = true) {
      const auto start = now();
      OTR_TRY(submit());
      OTR_TRY(finish(stream));
      if (is_warm) samples.add(amount, since(start));
    }
    return samples;
  }

  Status finish(Stream stream) {
    OTR_ASSIGN(const Event done, backend_.record(stream));
    return backend_.synchronize(done, kPatience);
  }

  /// Memory full of codes and scales that count as weights. Little of it goes over the link, which may be slow; the rest is copied there.
  Result<DeviceMemory> weights(uint64_t bytes) {
    OTR_ASSIGN(DeviceMemory memory, backend_.allocate(bytes));
    uint64_t filled = std::min(bytes, kPattern);
    OTR_ASSIGN(const PinnedMemory pinned, backend_.allocate_pinned(filled));
    fill_weights(pinned.data(), filled);
    OTR_TRY(backend_.copy_to_device(Stream::kCompute, memory.data(), pinned.data(), filled));
    for (uint64_t some; filled < bytes; filled += some) {
      some = std::min(filled, bytes - filled);
      OTR_TRY(backend_.launch(Stream::kCompute, CopyArgs{memory.data(), memory.data() + filled, some}));
    }
    OTR_TRY(finish(Stream::kCompute));
    return memory;
  }

  Result<DeviceMemory> activations(size_t count) {
    const uint64_t bytes = count * sizeof(float);
    OTR_ASSIGN(DeviceMemory memory, backend_.allocate(bytes));
    OTR_ASSIGN(const PinnedMemory pinned, backend_.allocate_pinned(bytes));
    for (size_t i = 0; i < count; ++i) reinterpret_cast<float*>(pinned.data())[i] = std::sin(static_cast<float>(i));
    OTR_TRY(backend_.copy_to_device(Stream::kCompute, memory.data(), pinned.data(), bytes));
    OTR_TRY(finish(Stream::kCompute));
    return memory;
  }

  Backend& backend() { return backend_; }
  double seconds() const { return seconds_; }

 private:
  Backend& backend_;
  double seconds_;
};

struct Link {
  Stream stream;
  const char* direction;
  Status (*copy)(Backend& backend, const DeviceMemory& device, const PinnedMemory& host, uint64_t bytes);
};
constexpr Link kToDevice = {Stream::kToDevice, "from pinned memory to the device",
                            [](Backend& backend, const DeviceMemory& device, const PinnedMemory& host, uint64_t bytes) {
                              return backend.copy_to_device(Stream::kToDevice, device.data(), host.data(), bytes);
                            }};
constexpr Link kToHost = {Stream::kToHost, "from the device to pinned memory",
                          [](Backend& backend, const DeviceMemory& device, const PinnedMemory& host, uint64_t bytes) {
                            return backend.copy_to_host(Stream::kToHost, host.data(), device.data(), bytes);
                          }};

// Copies as streamed weights make them, a few behind each other: as large as fits the time that a sample has, since a slow link would take
// minutes for what a fast one needs to be measured.
Result<Rate> measure_link(Measurement& measurement, const Link& link) {
  constexpr uint64_t kSmallest = 64_KiB, kLargest = 4_MiB;
  constexpr int kCopies = 4, kSamples = 8;
  Backend& backend = measurement.backend();
  OTR_ASSIGN(const DeviceMemory device, backend.allocate(kLargest));
  OTR_ASSIGN(const PinnedMemory host, backend.allocate_pinned(kLargest));
  OTR_TRY(link.copy(backend, device, host, kSmallest));
  OTR_TRY(measurement.finish(link.stream));
  const auto start = std::chrono::steady_clock::now();
  OTR_TRY(link.copy(backend, device, host, kSmallest));
  OTR_TRY(measurement.finish(link.stream));
  const double probe = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double fitting = static_cast<double>(kSmallest) / std::max(probe, 1e-9) * measurement.seconds() / (kCopies * kSamples);
  const uint64_t bytes = std::clamp(static_cast<uint64_t>(std::min(fitting, 1e12)), kSmallest, kLargest);
  OTR_ASSIGN(const Samples samples, measurement.collect(static_cast<double>(kCopies * bytes), link.stream, [&]() -> Status {
    for (int i = 0; i < kCopies; ++i) OTR_TRY(link.copy(backend, device, host, bytes));
    return {};
  }));
  return samples.rate(formatted("{} copies of {} {}", kCopies, format_bytes(bytes), link.direction));
}

// What a residual pays before its first byte: copies of a few bytes, each waited for before the next.
Result<double> measure_link_latency_us(Measurement& measurement) {
  constexpr uint64_t kBytes = 64;
  OTR_ASSIGN(const DeviceMemory device, measurement.backend().allocate(kBytes));
  OTR_ASSIGN(const PinnedMemory host, measurement.backend().allocate_pinned(kBytes));
  OTR_ASSIGN(const Samples samples,
             measurement.collect(1, kToDevice.stream, [&] { return kToDevice.copy(measurement.backend(), device, host, kBytes); }));
  return 1e6 / samples.rate("").per_s;
}

// From the device to the host and back, with something that the device computes meanwhile, as in a step; so often that what is beside it
// does not count. Submitted ahead, as a step's are.
Result<double> measure_handoff_us(Measurement& measurement) {
  constexpr size_t kFloats = 64, kTurns = 64;
  Backend& backend = measurement.backend();
  if (!backend.supports(DeviceOpKind::kReceive, PackedKind{})) return 0.0;
  OTR_ASSIGN(const DeviceMemory floats, measurement.activations(2 * kFloats));
  OTR_ASSIGN(const PinnedMemory pinned, backend.allocate_pinned((2 * kFloats + 1) * sizeof(HandoffWord)));
  auto* const closed = reinterpret_cast<HandoffWord*>(pinned.data());
  HandoffWord *const to_host = closed + 1, *const to_device = to_host + kFloats;
  float *const x = reinterpret_cast<float*>(floats.data()), *const beside = x + kFloats;
  constexpr uint64_t kPatienceNs = 1'000'000'000;
  uint32_t submitted = 0, answered = 0;
  const auto answer = [&]() -> Status {
    float taken[kFloats] = {};
    const auto begin = std::chrono::steady_clock::now();
    ++answered;
    for (size_t next = 0;
         (next = receive_words(to_host, next, kFloats, answered, [&](size_t i, float value) { taken[i] = value; })) < kFloats;) {
      if (std::chrono::steady_clock::now() - begin > kPatience)
        return Status(StatusCode::kDevice, "device: what it sends to the host does not come");
      std::this_thread::yield();
    }
    send_words(taken, to_device, 0, kFloats, answered);
    return {};
  };
  const Result<Samples> samples = measurement.collect(kTurns, Stream::kCompute, [&]() -> Status {
    for (size_t i = 0; i < kTurns; ++i) {
      ++submitted;
      OTR_TRY(backend.launch(Stream::kCompute, SendArgs{x, to_host, kFloats, submitted}));
      OTR_TRY(backend.launch(Stream::kCompute, SiluMulArgs{x, x, beside, kFloats}));
      OTR_TRY(backend.launch(Stream::kCompute, ReceiveArgs{to_device, closed, x, kFloats, false, submitted, kPatienceNs}));
    }
    OTR_TRY(backend.record(Stream::kCompute).status());
    for (size_t i = 0; i < kTurns; ++i) OTR_TRY(answer());
    return {};
  });
  if (!samples.is_ok()) store_word(closed, kHandoffClosed);  // what is submitted is not answered, and the memory waits for it
  OTR_TRY(samples.status());
  // One that had to give up has seen nothing that a plan could count on.
  return load_word(closed) == 0 ? 1e6 / samples.value().rate("").per_s : 0.0;
}

// `count` matrices of rows x columns, one after the other, with the same tokens.
Result<Samples> measure_products(Measurement& measurement, size_t rows, size_t columns, size_t count, size_t tokens, double amount) {
  Backend& backend = measurement.backend();
  const uint64_t bytes = packed_bytes(kMeasuredKind, rows, columns);
  OTR_ASSIGN(const DeviceMemory weights, measurement.weights(count * bytes));
  OTR_ASSIGN(const DeviceMemory src, measurement.activations(tokens * columns));
  OTR_ASSIGN(const DeviceMemory panel, backend.allocate(activation_panel_bytes(tokens, columns)));
  OTR_ASSIGN(const DeviceMemory dst, backend.allocate(tokens * rows * sizeof(float)));
  OTR_TRY(backend.launch(Stream::kCompute, QuantizeArgs{reinterpret_cast<float*>(src.data()), columns, panel.data(), tokens, columns}));
  return measurement.collect(amount, Stream::kCompute, [&]() -> Status {
    for (size_t i = 0; i < count; ++i) {
      OTR_TRY(backend.launch(Stream::kCompute, MatmulArgs{kMeasuredKind, weights.data() + i * bytes, rows, columns, nullptr, 0,
                                                          panel.data(), reinterpret_cast<float*>(dst.data()), rows, tokens, false}));
    }
    return {};
  });
}

// More weights than a cache holds, if the device has the memory: 128 MiB is more than twice the largest second-level cache of a GPU.
Result<Rate> measure_device_stream(Measurement& measurement) {
  constexpr size_t kRows = 4096, kColumns = 2048;  // 5 MiB
  constexpr uint64_t kMost = 128_MiB;
  const uint64_t bytes = packed_bytes(kMeasuredKind, kRows, kColumns), free_bytes = measurement.backend().inventory().free_bytes;
  const uint64_t count = std::max<uint64_t>(1, std::min(kMost, free_bytes / 4) / bytes);
  OTR_ASSIGN(const Samples samples, measure_products(measurement, kRows, kColumns, count, 1, static_cast<double>(count * bytes)));
  return samples.rate(formatted("one token's products with {} of Q4_1 weights", format_bytes(count * bytes)));
}

Result<Rate> measure_device_ops(Measurement& measurement, size_t tokens, size_t runs) {
  constexpr size_t kRows = 1536, kColumns = 2048;
  const double ops = 2.0 * kRows * kColumns * static_cast<double>(tokens * runs);
  OTR_ASSIGN(const Samples samples, measure_products(measurement, kRows, kColumns, runs, tokens, ops));
  return samples.rate(formatted("{} products of {} x {} Q4_1 weights with {} tokens, int8 activations", runs, kRows, kColumns, tokens));
}

Result<Rate> measure_device_attention(Measurement& measurement) {
  constexpr size_t kTokens = 32, kHeads = 8, kKvHeads = 4, kHeadDim = 64, kPositions = 1024;
  const uint64_t side = kv_head_offset(KvType::kF16, kHeadDim, kPositions, kKvHeads);
  AttentionArgs args{};
  args.q_stride = args.dst_stride = kHeads * kHeadDim;
  args.tokens = kTokens, args.heads = kHeads, args.kv_heads = kKvHeads, args.head_dim = kHeadDim;
  args.capacity = kPositions, args.first_position = kPositions - kTokens, args.scale = 0.125f;
  Backend& backend = measurement.backend();
  OTR_ASSIGN(const DeviceMemory cache, measurement.weights(2 * side));
  OTR_ASSIGN(const DeviceMemory q, measurement.activations(kTokens * kHeads * kHeadDim));
  OTR_ASSIGN(const DeviceMemory dst, backend.allocate(q.bytes()));
  OTR_ASSIGN(const DeviceMemory scratch, backend.allocate(backend.scratch_bytes(args)));
  args.q = reinterpret_cast<float*>(q.data()), args.dst = reinterpret_cast<float*>(dst.data());
  args.k_cache = cache.data(), args.v_cache = cache.data() + side, args.scratch = scratch.data();
  // Scores and values: two operations each for every element of every head.
  const double positions = kTokens * (kPositions - kTokens) + kTokens * (kTokens + 1) / 2.0;
  OTR_ASSIGN(const Samples samples, measurement.collect(4.0 * kHeads * kHeadDim * positions, Stream::kCompute,
                                                        [&] { return backend.launch(Stream::kCompute, args); }));
  return samples.rate(formatted("attention of {} tokens to {} positions, {} heads of {}", kTokens, kPositions, kHeads, kHeadDim));
}

Result<double> measure_device_overhead_us(Measurement& measurement) {
  constexpr int kOps = 200;  // between the operators of thirty layers
  OTR_ASSIGN(const DeviceMemory memory, measurement.activations(16));
  float* const x = reinterpret_cast<float*>(memory.data());
  OTR_ASSIGN(const Samples samples, measurement.collect(1, Stream::kCompute, [&]() -> Status {
    for (int i = 0; i < kOps; ++i) OTR_TRY(measurement.backend().launch(Stream::kCompute, SiluMulArgs{x, x, x, 16}));
    return {};
  }));
  return 1e6 / samples.fastest();
}

// As a plan counts them: a host thread's scratch is what one of them takes.
uint32_t device_threads(const Backend& backend) {
  AttentionArgs args{};
  args.tokens = args.heads = args.kv_heads = 1;
  args.head_dim = 128;
  const uint64_t each = attention_scratch_bytes(args.head_dim);
  return static_cast<uint32_t>(std::max<uint64_t>(1, (backend.scratch_bytes(args) + each - 1) / each));
}

}  // namespace

Status measure_device(Backend& backend, double seconds, MachineProfile* profile) {
  const Inventory inventory = backend.inventory();
  Measurement measurement(backend, seconds);
  OTR_ASSIGN(profile->h2d_bytes, measure_link(measurement, kToDevice));
  OTR_ASSIGN(profile->d2h_bytes, measure_link(measurement, kToHost));
  OTR_ASSIGN(profile->link_latency_us, measure_link_latency_us(measurement));
  OTR_ASSIGN(profile->handoff_us, measure_handoff_us(measurement));
  OTR_ASSIGN(profile->device_stream_bytes, measure_device_stream(measurement));
  OTR_ASSIGN(profile->device_int8_ops, measure_device_ops(measurement, 128, 1));
  OTR_ASSIGN(profile->device_small_batch_ops, measure_device_ops(measurement, 4, 4));
  OTR_ASSIGN(profile->device_attention_flops, measure_device_attention(measurement));
  OTR_ASSIGN(profile->device_step_overhead_us, measure_device_overhead_us(measurement));
  profile->device_threads = device_threads(backend);
  profile->device = inventory.name;
  profile->device_memory_bytes = inventory.memory_bytes;
  profile->device_taken_bytes = backend.inventory().taken_bytes;  // with the kernels that have been used
  return {};
}

}  // namespace outrigger
