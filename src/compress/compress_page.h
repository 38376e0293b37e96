// compress_page: what compressing measured, chose and made, on one page.
#ifndef OUTRIGGER_SRC_COMPRESS_COMPRESS_PAGE_H_
#define OUTRIGGER_SRC_COMPRESS_COMPRESS_PAGE_H_

#include <outrigger/compress.h>
#include <outrigger/model.h>

#include <string>

namespace outrigger {

/// HTML that needs nothing else. `model` is the one that was compressed, `output` where the new one is. The same arguments give the same
/// bytes. `quality`: null where it was not measured. Throws std::bad_alloc.
std::string compress_page(const CompressReport& report, const CompressOptions& options, const ModelInfo& model, const std::string& output,
                          const CompressQuality* quality);

}  // namespace outrigger

#endif  // OUTRIGGER_SRC_COMPRESS_COMPRESS_PAGE_H_
