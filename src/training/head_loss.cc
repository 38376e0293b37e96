// HeadLoss: some tokens' logits at a time, since those of all are far larger than everything else a token has.
#include "src/training/head_loss.h"

#include <algorithm>
#include <cmath>

namespace outrigger {
namespace {

// Enough to make the reading of the head from memory cheap beside the product: a weight serves 64 multiplications.
constexpr size_t kSlice = 64;

struct Softmax {
  float most;
  double sum;

  explicit Softmax(std::span<const float> logits) : most(*std::max_element(logits.begin(), logits.end())), sum(0) {
    for (const float logit : logits) sum += static_cast<double>(std::exp(logit - most));
  }
};

// The divergence of a token; its logits' gradients, times `share`, take the place of the student's logits.
double token_divergence(std::span<const float> teacher, std::span<float> student, float share) {
  const Softmax of_teacher(teacher), of_student(student);
  const auto teacher_scale = static_cast<float>(1 / of_teacher.sum), student_scale = static_cast<float>(1 / of_student.sum);
  // log p - log q is a difference of logits and this.
  const double shift =
      static_cast<double>(of_student.most) - static_cast<double>(of_teacher.most) + std::log(of_student.sum) - std::log(of_teacher.sum);
  double divergence = 0;
  for (size_t i = 0; i < teacher.size(); ++i) {
    const float p = std::exp(teacher[i] - of_teacher.most) * teacher_scale, q = std::exp(student[i] - of_student.most) * student_scale;
    divergence += static_cast<double>(p) * (static_cast<double>(teacher[i]) - static_cast<double>(student[i]) + shift);
    student[i] = (q - p) * share;
  }
  return divergence;
}

}  // namespace

HeadLoss::HeadLoss(std::span<const float> head, size_t vocabulary, size_t width, ThreadTeam& team)
    : vocabulary_(vocabulary), width_(width), team_(team) {
  head_.pack({head.data(), width}, vocabulary, width, &team);
  turned_head_.pack_transposed({head.data(), width}, width, vocabulary, &team);
  teacher_logits_.resize(kSlice * vocabulary);
  student_logits_.resize(kSlice * vocabulary);
}

double HeadLoss::divergence(std::span<const float> teacher, std::span<const float> student, float* gradient) {
  const size_t tokens = teacher.size() / width_;
  std::vector<double> divergences(tokens);
  for (size_t first = 0; first < tokens; first += kSlice) {
    const size_t count = std::min(kSlice, tokens - first);
    head_.multiply({teacher.data() + first * width_, width_}, count, teacher_logits_.data(), vocabulary_, false, &team_);
    head_.multiply({student.data() + first * width_, width_}, count, student_logits_.data(), vocabulary_, false, &team_);
    team_.run([&](const TeamMember& member) {
      size_t begin, end;
      member.share(count, 1, &begin, &end);
      for (size_t t = begin; t < end; ++t) {
        const std::span teachers(teacher_logits_.data() + t * vocabulary_, vocabulary_),
            students(student_logits_.data() + t * vocabulary_, vocabulary_);
        divergences[first + t] = token_divergence(teachers, students, 1 / static_cast<float>(tokens));
      }
    });
    if (gradient != nullptr) {
      turned_head_.multiply({student_logits_.data(), vocabulary_}, count, gradient + first * width_, width_, false, &team_);
    }
  }
  double sum = 0;
  for (const double divergence : divergences) sum += divergence;
  return sum / static_cast<double>(tokens);
}

}  // namespace outrigger
