// Two shorthands for passing a failure on.
#ifndef OUTRIGGER_SRC_BASE_MACROS_H_
#define OUTRIGGER_SRC_BASE_MACROS_H_

#include <outrigger/status.h>

/// Returns from the enclosing function with the failure, if `expr` (a Status) is one.
#define OTR_TRY(expr)                                              \
  do {                                                             \
    if (::outrigger::Status otr_status = (expr); !otr_status.is_ok()) return otr_status; \
  } while (false)

#define OTR_CONCAT_INNER(a, b) a##b
#define OTR_CONCAT(a, b) OTR_CONCAT_INNER(a, b)

/// `OTR_ASSIGN(auto x, f());` declares x from a Result, or returns its failure from the enclosing function.
#define OTR_ASSIGN(declaration, expr) OTR_ASSIGN_INNER(OTR_CONCAT(otr_result_, __LINE__), declaration, expr)
#define OTR_ASSIGN_INNER(result, declaration, expr) \
  auto result = (expr);                             \
  if (!result.is_ok()) return result.status();      \
  declaration = std::move(result).value()

#endif  // OUTRIGGER_SRC_BASE_MACROS_H_
