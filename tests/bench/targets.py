"""What is compared, and what has to be reached: every speed target of the project as one table. Standard library only."""
import dataclasses
import re
import statistics


@dataclasses.dataclass(frozen=True)
class Need:
    """Met by the ratio to the peer, or, where there is one, by the share of the machine's rate of reading memory."""
    ratio: float
    fraction: float | None = None

    def text(self):
        return f"{self.ratio:g}x" + (f" or {self.fraction:.0%}" if self.fraction else "")


@dataclasses.dataclass(frozen=True)
class Case:
    """One file at one instruction level, with the lengths it is measured at and what it needs."""
    name: str
    title: str
    needs: dict  # of "tg", "pp" and "batch"
    prompt: int = 512
    generate: int = 64
    level: str = "best"  # or "avx2": the peer is then a build for AVX2

    def model(self):
        """The name in models.py."""
        return self.name.removesuffix("@avx2")


BATCH = 8
TESTS = {"tg": "decode", "pp": "prompt", "batch": f"batch of {BATCH}", "verify": f"{BATCH} tokens, logits of each"}


def _formats(repacked_by_peer):
    return {"tg": Need(1.5, 0.80), "pp": Need(2.5 if repacked_by_peer else 3), "batch": Need(3)}


CASES = (
    Case("default", "SmolLM2-135M, Q4_1", {"tg": Need(2.3, 0.80), "pp": Need(6), "batch": Need(4)}),
    Case("widened-q4_1", "widened 16x, Q4_1, 1.3 G", {"tg": Need(2, 0.80), "pp": Need(7), "batch": Need(5)}, prompt=128, generate=24),
    Case("widened-f16", "widened 8x, F16, 0.7 G", {"tg": Need(1.1, 0.85), "pp": Need(1.2), "batch": Need(1.5)}, prompt=128, generate=24),
    Case("default-q8_0", "SmolLM2-135M, Q8_0", _formats(False)),
    Case("default-q4_0", "SmolLM2-135M, Q4_0", _formats(True)),
    Case("random-q4_0", "random 1.1 G, Q4_0", _formats(True), generate=24),
    Case("random-q4_k", "random 1.1 G, Q4_K", _formats(True), generate=24),
    Case("random-q6_k", "random 1.1 G, Q6_K", _formats(False), generate=24),
    Case("random-q2_k", "random 1.1 G, Q2_K", _formats(False), generate=24),
    Case("random-iq4_nl", "random 1.1 G, IQ4_NL", _formats(True), generate=24),
    Case("default@avx2", "SmolLM2-135M, Q4_1, both AVX2", {"tg": Need(0.9), "pp": Need(1.5)}, level="avx2"),
)


def find_case(name):
    return next((case for case in CASES if case.name == name), None)


def verdict(need, ratio, fraction):
    """"met", "met by the fraction", "missed", or "" where nothing is needed."""
    if need is None:
        return ""
    if ratio >= need.ratio:
        return "met"
    return "met by the fraction" if need.fraction and fraction is not None and fraction >= need.fraction else "missed"


def summarise(case, rounds, tokens):
    """One row a test: medians over the rounds, and of the ratio the range too. tokens: how many "tg" and "pp" were.

    rounds: {"ours": {test: tokens/s}, "peer": {test: tokens/s}, "weights": bytes/s while decoding, "stream": bytes/s}, one each.
    A ratio is the median of the rounds' ratios: a disturbed round moves it little. The peer's rate beside "verify" is that of its batch,
    of which it computes the last token's logits alone.
    """
    rows = []
    for test in TESTS:
        if test not in rounds[0]["ours"]:
            continue
        ours, peer = [r["ours"][test] for r in rounds], [r["peer"]["batch" if test == "verify" else test] for r in rounds]
        ratios = [a / b for a, b in zip(ours, peer)]
        fraction = statistics.median(r["weights"] / r["stream"] for r in rounds) if test == "tg" else None
        ratio, need = statistics.median(ratios), case.needs.get(test)
        rows.append({"case": case.name, "test": test, "ours": statistics.median(ours), "peer": statistics.median(peer), "ratio": ratio,
                     "ratio_min": min(ratios), "ratio_max": max(ratios), "fraction": fraction, "tokens": tokens.get(test, BATCH), "verdict": verdict(need, ratio, fraction)})
    return rows


@dataclasses.dataclass(frozen=True)
class MicroNeed:
    """A row of the microbenchmarks whose name matches needs this counter at least (or at most) at this value."""
    pattern: str
    title: str
    value: float
    counter: str = "fraction"
    at_most: bool = False

    def is_met(self, value):
        return value <= self.value if self.at_most else value >= self.value

    def text(self):
        return f"<= {self.value:g} us" if self.at_most else f">= {self.value:g}x" if self.counter == "speedup" else f">= {self.value:.0%}"


MICRO = (
    MicroNeed(r"gemv_cold/avx512/Q4_[01]/(4096|14336)x4096/threads:1", "one token, large, 1 thread: of a bare read", 0.90),
    MicroNeed(r"gemv_cold/avx512/Q4_[01]/(4096|14336)x4096/threads:[2-9]", "one token, large: of a bare read", 0.80),
    MicroNeed(r"gemv_cold/avx512/Q4_[01]/(1536|3072)x576/threads:[2-9]", "one token, small: of a bare read", 0.85),
    MicroNeed(r"gemv_cold/avx512/Q4_[01]/(576|960)x576/threads:[2-9]", "one token, smallest: of a bare read", 0.75),
    MicroNeed(r"gemm/avx512/Q4_[01]/.*/tokens:4/threads:\d", "4 tokens: of the int8 peak", 0.60),
    MicroNeed(r"gemm/avx512/Q4_[01]/.*/tokens:(8|32)/threads:\d", "8 and 32 tokens: of the int8 peak", 0.70),
    MicroNeed(r"gemm/avx512/Q4_[01]/.*/tokens:(128|512)/threads:\d", "128 and 512 tokens: of the int8 peak", 0.72),
    MicroNeed(r"gemm/avx512/BF16/.*/tokens:(32|128|512)/threads:\d", "BF16, 32 tokens and more: of the bf16 peak", 0.80),
    MicroNeed(r"gemm/avx2/Q4_[01]/.*/tokens:(8|128)/threads:\d", "AVX2, 8 tokens and more: of AVX-512's int8 peak", 0.35, "fraction_of_vnni"),
    MicroNeed(r"attention_decode/(f16|q8_0)/.*/context:8192/threads:\d", "attention over 8192 positions: of a bare read", 0.70),
    MicroNeed(r"scaling/.*", "128 tokens, all threads beside one", 1.7, "speedup"),
    MicroNeed(r"barrier/.*", "a barrier inside a region", 0.5, "us", at_most=True),
)


def row_name(benchmark):
    """The name as the row was registered: without what Google Benchmark appends."""
    return re.sub(r"/iterations:\d+/manual_time$", "", benchmark["name"])


def micro_rows(benchmarks):
    """(name, counter's value, need or None) of every row that was measured."""
    rows = []
    for benchmark in benchmarks:
        if benchmark.get("error_occurred") or benchmark.get("run_type") == "aggregate":
            continue
        name = row_name(benchmark)
        need = next((need for need in MICRO if re.fullmatch(need.pattern, name)), None)
        value = benchmark.get(need.counter if need else "fraction")
        rows.append((name, value, need))
    return rows
