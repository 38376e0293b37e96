// OTR_API marks what the C++ library exports; everything else is hidden.
#ifndef OUTRIGGER_EXPORT_H_
#define OUTRIGGER_EXPORT_H_

#if defined(__GNUC__)
#define OTR_API __attribute__((visibility("default")))
#else
#define OTR_API
#endif

#endif  // OUTRIGGER_EXPORT_H_
