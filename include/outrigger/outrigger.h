/* The C API, C99: everything the library does, for C and for every language that can call C. */
#ifndef OUTRIGGER_H_
#define OUTRIGGER_H_

/** @file
 * The C API. It includes <stddef.h> and <stdint.h> only. Its habits, said once:
 *
 * 1. Every call that can fail returns an otr_status and, if `error` is not NULL, fills the caller's otr_error. Nothing is printed, aborted
 *    or thrown. A failed call leaves its objects as they were unless it says otherwise, and sets the handle it was to make to NULL.
 * 2. Handles are opaque. `otr_<object>_close` takes the handle's address, accepts NULL and a NULL handle, and sets the handle to NULL.
 *    Handles may be closed in any order: what is still in use by another object lives until that one is closed.
 * 3. Structs that may grow begin with struct_size. Options are filled by `otr_<object>_options_init(&options, sizeof options)`; a NULL
 *    options pointer means the defaults. In a struct to be filled by a call, and in otr_error, the caller sets struct_size to its sizeof
 *    before. Fields whose names begin with `reserved` are 0.
 * 4. Text in is UTF-8: names, paths and stop texts end with NUL, everything else comes with its length in bytes and may contain NUL. Text
 *    out goes to a buffer of `capacity` bytes and is NUL-terminated; *bytes is its length without the NUL, so `capacity` must be at least
 *    *bytes + 1. Arrays out are the same without the NUL. A NULL buffer asks for the length alone; a buffer that is too small is
 *    OTR_INVALID_ARGUMENT, nothing is written to it, and *bytes (or *count) says what is needed.
 * 5. Sizes are bytes, times are milliseconds, unless a name says otherwise.
 * 6. Callbacks run on the thread that made the call, while the call lasts, but for the log sink. They return 0 to go on. They must not
 *    throw or longjmp, and may call anything but the object whose call they came from (otr_cancel is always allowed).
 * 7. Threads: models, profiles, plans, engines, batches and cancel tokens may be used by any number of threads at once. Sessions, samplers
 *    and text streams take one thread at a time; a session answers a second one with OTR_INVALID_ARGUMENT ("busy"). Closing a handle while
 *    another thread uses it is the caller's mistake.
 * 8. Every function can return OTR_INVALID_ARGUMENT (a NULL it does not allow, a struct_size it does not know, a value out of range),
 *    OTR_OUT_OF_MEMORY and OTR_INTERNAL (our own mistake; please report it); the lists of errors name the others.
 */

#include <stddef.h>
#include <stdint.h>

/** The version of this header; otr_version() is that of the library. */
#define OTR_VERSION_MAJOR 0
#define OTR_VERSION_MINOR 1
#define OTR_VERSION_PATCH 0
/** Increases when something is removed or laid out anew, together with the library's SONAME; additions keep it. */
#define OTR_ABI_VERSION 0

#if defined(__GNUC__)
#define OTR_C_API __attribute__((visibility("default")))
#else
#define OTR_C_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status and errors ---- */

/** OTR_OK, or why a call failed. The values never change; new ones may be added, so treat an unknown one as a failure. */
typedef int32_t otr_status;
/** Values of otr_status, which are also the exit codes of the outrigger command. */
enum otr_status_values {
  OTR_OK = 0,
  OTR_INVALID_ARGUMENT = 10, /**< the caller broke a documented precondition */
  OTR_NOT_FOUND = 11,        /**< no such file */
  OTR_CORRUPT_FILE = 12,     /**< the file contradicts itself or its format; byte_offset says where */
  OTR_UNSUPPORTED = 13,      /**< valid, but not something this version does; the message names it */
  OTR_UNAVAILABLE = 14,      /**< no such device, or a build without it */
  OTR_BUDGET = 15,           /**< does not fit the stated bytes; needed_bytes says what would */
  OTR_OUT_OF_MEMORY = 16,    /**< the system refused memory */
  OTR_IO = 17,               /**< the system refused a read or a write, or the file changed under us */
  OTR_DEVICE = 18,           /**< an accelerator failed */
  OTR_CANCELLED = 19,        /**< the caller asked to stop */
  OTR_INTERNAL = 20          /**< our own mistake */
};

/** What went wrong, in the caller's memory: reporting "out of memory" needs none. The texts end with NUL and are cut at a character if they
 * are too long. After a call that succeeded, status is OTR_OK, the numbers are 0 and the texts empty. Since 0.1, stable. */
typedef struct otr_error {
  uint32_t struct_size;  /**< set by the caller: sizeof(otr_error) */
  otr_status status;
  uint64_t needed_bytes; /**< OTR_BUDGET: the smallest budget with which the same call would succeed; else 0 */
  uint64_t given_bytes;  /**< OTR_BUDGET: the budget it was given; else 0 */
  uint64_t byte_offset;  /**< OTR_CORRUPT_FILE, OTR_IO: where in the file; else 0 */
  char message[512];     /**< one line for a person: what was got, what is needed, what to do, and where */
  char subject[128];     /**< the tensor or metadata key, or "" */
  char file[512];        /**< the file, or "" */
} otr_error;

/** The status's name, "BUDGET"; "UNKNOWN" for a value this library does not know. Never NULL, valid for ever. Since 0.1, stable. */
OTR_C_API const char* otr_status_name(otr_status status);

/** The library's version, "0.1.0". Valid for ever. Since 0.1, stable. */
OTR_C_API const char* otr_version(void);

/** The library's version as major * 10000 + minor * 100 + patch. Since 0.1, stable. */
OTR_C_API int32_t otr_version_number(void);

/** The library's OTR_ABI_VERSION. A binding that was written for another value must not go on. Since 0.1, stable. */
OTR_C_API int32_t otr_abi_version(void);

/** What this build of the library is, and what of it this machine uses. The texts are valid for ever. */
typedef struct otr_build_info {
  uint32_t struct_size;    /**< set by the caller: sizeof(otr_build_info) */
  int32_t abi_version;     /**< otr_abi_version() */
  const char* version;     /**< otr_version() */
  const char* compiler;    /**< "GCC 12.2.0" */
  const char* simd_built;  /**< levels with kernels in this build, slowest first, with spaces between: "none avx2 avx512" */
  const char* simd_in_use; /**< the one that runs on this processor; the environment variable OUTRIGGER_SIMD may lower it */
  int32_t cuda;            /**< 1 if the CUDA backend, liboutrigger_cuda.so, was built too */
  uint32_t usable_cores;   /**< physical cores this process may use: the default number of threads */
} otr_build_info;

/** Fills *info. Since 0.1, stable. */
OTR_C_API otr_status otr_get_build_info(otr_build_info* info, otr_error* error);

/* ---- Log ---- */

/** Values of a log line's level. */
enum otr_log_level_values { OTR_LOG_ERROR = 0, OTR_LOG_WARNING = 1, OTR_LOG_INFO = 2, OTR_LOG_DEBUG = 3 };

/** Gets one line of `bytes` bytes, without a newline and without a NUL. */
typedef void (*otr_log_sink)(void* user, int32_t level, const char* line, size_t bytes);

/** Installs the process's sink for levels up to and including `most_verbose`; a NULL sink makes the library silent again, as it is at
 * first. When the call returns the sink before it is not running and will not be called any more.
 * Threads: call it at any time, but not from within a sink. The sink is called by one thread at a time, on any thread of the library or of
 * the caller. Since 0.1, stable. */
OTR_C_API otr_status otr_log_set_sink(otr_log_sink sink, void* user, int32_t most_verbose, otr_error* error);

/* ---- Cancel ---- */

/** A flag with which one thread asks another one's long call to stop. */
typedef struct otr_cancel otr_cancel;

/** Makes a flag, not triggered. A call that was given one looks at it at most some milliseconds apart. Close it with otr_cancel_close; a
 * call that is still running with it is not harmed. Since 0.1, stable. */
OTR_C_API otr_status otr_cancel_create(otr_cancel** cancel, otr_error* error);

/** Asks the calls that use the flag, now and until the next reset, to stop. Any thread; safe in a signal handler; NULL does nothing.
 * Since 0.1, stable. */
OTR_C_API void otr_cancel_trigger(const otr_cancel* cancel);

/** Makes the flag usable again. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_cancel_reset(const otr_cancel* cancel);

/** 1 if it is triggered, else 0; 0 for NULL. Since 0.1, stable. */
OTR_C_API int32_t otr_cancel_is_triggered(const otr_cancel* cancel);

/** Frees the flag. Since 0.1, stable. */
OTR_C_API void otr_cancel_close(otr_cancel** cancel);

/** Gets the share done, 0 to 1. Return 0 to go on, anything else to stop, which gives OTR_CANCELLED. */
typedef int32_t (*otr_progress)(void* user, double share);

/* ---- Model ---- */

/** An opened model file: what it is, its vocabulary, the catalogue of its tensors. Immutable; no weight is in memory yet. */
typedef struct otr_model otr_model;

/** Values of otr_model_options.disk_direct: whether reads go past the page cache. */
enum otr_disk_direct_values {
  OTR_DISK_DIRECT_AUTO = 0, /**< where the file system allows it */
  OTR_DISK_DIRECT_ON = 1,   /**< always, or an error */
  OTR_DISK_DIRECT_OFF = 2   /**< never */
};

/** How to open a model. */
typedef struct otr_model_options {
  uint32_t struct_size;
  int32_t disk_direct; /**< OTR_DISK_DIRECT_AUTO (default), _ON, _OFF */
} otr_model_options;

/** What a model file says about itself. The texts are never NULL, belong to the model and are valid until it is closed. */
typedef struct otr_model_info {
  uint32_t struct_size;      /**< set by the caller: sizeof(otr_model_info) */
  int32_t can_run;           /**< 1: otr_engine_open takes it; 0: why_not says why it does not */
  const char* file;          /**< the path it was opened from, or "memory" */
  const char* name;          /**< "" if the file brings none */
  const char* architecture;  /**< "llama", "qwen2" */
  const char* why_not;       /**< "" when it can run */
  const char* tokenizer;     /**< "bpe (smollm)"; "" if the file has none that can be used */
  const char* chat_template; /**< a recognised name, "unrecognised", or "" if the file has none */
  uint64_t parameters;       /**< elements of all tensors */
  uint64_t bytes;            /**< of the file */
  double bits_per_weight;    /**< tensor bytes * 8 / parameters; 0 without tensors */
  uint64_t context_tokens;   /**< what it was trained for, or less where longer ones are not computed */
  uint64_t width;
  uint64_t ffn_width;
  uint64_t vocabulary_tokens;
  uint64_t tensors;          /**< how many otr_model_get_tensor knows */
  uint32_t layers;
  uint32_t heads;
  uint32_t kv_heads;
  uint32_t head_dim;
  int32_t bos;               /**< begin-of-text token; -1 if there is none */
  int32_t eos;               /**< end-of-text token; -1 if there is none */
  int32_t adds_bos;          /**< 1: the model expects bos before a text that is not a chat */
  int32_t is_packed;         /**< 1: otr_model_pack wrote it: what streams needs no packing */
} otr_model_info;

/** One tensor as the file describes it. The texts and the shape belong to the model and are valid until it is closed. */
typedef struct otr_tensor_info {
  uint32_t struct_size;  /**< set by the caller: sizeof(otr_tensor_info) */
  uint32_t axes;         /**< length of `shape` */
  const char* name;
  const char* type;      /**< "Q4_1", "F32"; of a packed model's matrices, what was packed */
  const uint64_t* shape; /**< the file's order: shape[0] is the length of a row */
  uint64_t bytes;
  uint64_t file_offset;  /**< of a directory's tensor: in the file that holds it */
} otr_tensor_info;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_model_options_init(otr_model_options* options, uint32_t struct_size);

/** Opens a GGUF file, or a Hugging Face directory (its path, or that of its config.json, model.safetensors or
 * model.safetensors.index.json), and reads its header, vocabulary and catalogue; no weight is read. Succeeds for a well-formed file that
 * cannot be run (another architecture, a weight type without kernels, a vocabulary alone): otr_model_info.can_run tells.
 * Cost: proportional to the header, about 30 ms and 4 MiB for 50,000 tokens.
 * Errors: OTR_NOT_FOUND, OTR_CORRUPT_FILE (byte_offset, subject), OTR_UNSUPPORTED (the message names what), OTR_IO.
 * Since 0.1, stable. */
OTR_C_API otr_status otr_model_open(const char* path, const otr_model_options* options, otr_model** model, otr_error* error);

/** The same from the caller's buffer, which must not change, and must outlive the model and every engine and session made from it.
 * Errors: as otr_model_open. Since 0.1, stable. */
OTR_C_API otr_status otr_model_open_memory(const void* bytes, size_t size, otr_model** model, otr_error* error);

/** Frees the model; its engines and sessions keep what they need. Since 0.1, stable. */
OTR_C_API void otr_model_close(otr_model** model);

/** Fills *info. Since 0.1, stable. */
OTR_C_API otr_status otr_model_get_info(const otr_model* model, otr_model_info* info, otr_error* error);

/** Fills *info with tensor `index`, 0 to otr_model_info.tensors - 1, in file order. Since 0.1, stable. */
OTR_C_API otr_status otr_model_get_tensor(const otr_model* model, uint64_t index, otr_tensor_info* info, otr_error* error);

/** How to pack a model. */
typedef struct otr_pack_options {
  uint32_t struct_size;
  uint32_t reserved;
  otr_progress progress;    /**< NULL (default): none */
  void* user;               /**< handed to `progress` */
  const otr_cancel* cancel; /**< stops the packing; NULL (default): nothing does */
} otr_pack_options;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_pack_options_init(otr_pack_options* options, uint32_t struct_size);

/** Writes the model to `path` as one packed GGUF file: the same metadata and the same values, its matrices in the layout and the order in
 * which steps read them, aligned for direct reads. It opens like any other model and gives the same bits. The file appears under its name
 * complete, replacing what stood there, or not at all. At most about 8 MiB of weights are in memory at once.
 * Errors: OTR_UNSUPPORTED with the reason when the model cannot run; OTR_INVALID_ARGUMENT also when `path` is the model's own file, or one
 * of its directory; OTR_IO when the model cannot be read or has changed, or `path` cannot be written; OTR_CANCELLED. Since 0.1, stable. */
OTR_C_API otr_status otr_model_pack(const otr_model* model, const char* path, const otr_pack_options* options, otr_error* error);

/** How a budget for branches is shared out. */
enum otr_branch_allocation {
  OTR_BRANCHES_MEASURED = 0, /**< by how much nearer the model comes, measured by kind of matrix and by layer (default) */
  OTR_BRANCHES_UNIFORM = 1,  /**< the same rank, or share, for all */
  OTR_BRANCHES_HCINFER = 2   /**< by HCInfer's score of matrices and layers, for comparison; low-rank branches only */
};

/** What a matrix may be corrected by. */
enum otr_branch_form {
  /** Each by whichever brings the model nearer within the budgets (default); where nothing is measured, all by residuals if these fit */
  OTR_BRANCHES_AUTO = 0,
  OTR_BRANCHES_LOW_RANK = 1, /**< low-rank branches, all of which a token reads */
  OTR_BRANCHES_SPARSE = 2 /**< residuals: what a matrix lost in four bits, of which each token reads the columns that matter most to it */
};

/** What a weight's code stands for, in steps of its scale. */
enum otr_weight_levels {
  OTR_LEVELS_UNIFORM = 0, /**< equal steps (default); exported files have the same values */
  OTR_LEVELS_CODEBOOK = 1 /**< a table's, closer together in the middle, from either end: the same bytes, and less is lost */
};

/** What training has in memory at once, and so what it can see. */
enum otr_polish_scope {
  OTR_POLISH_AUTO = 0,       /**< end to end where host_bytes has room for it, else block by block (default) */
  OTR_POLISH_END_TO_END = 1, /**< the whole model as float32: all factors together, for what the whole model says */
  OTR_POLISH_BLOCK = 2       /**< one layer as float32: a layer's factors for what comes out of it, one layer after the other */
};

/** What training moves. */
enum otr_polish_target {
  OTR_POLISH_BRANCHES = 0, /**< the factors of low-rank branches (default) */
  OTR_POLISH_BACKBONE = 1, /**< the scales and minima of the matrices in few bits, and the norms: no byte more, here or when it runs */
  OTR_POLISH_BOTH = 2      /**< all of them together */
};

/** One matrix of a model that was compressed. */
typedef struct otr_compressed_matrix {
  uint32_t struct_size;
  int32_t bits;                 /**< of a weight's code */
  const char* name;             /**< of its tensor; as `kind`, there while the call lasts */
  const char* kind; /**< "q", "k", "v", "output", "gate", "up" or "down"; of the expert that every token passes "shared_gate", ... */
  uint32_t layer;
  uint32_t experts;             /**< of `rows` and `columns` each, that these are the matrices of; 1: it is no stack */
  uint64_t rows, columns;
  uint32_t rank;                /**< of its low-rank branch; 0: none */
  uint32_t reserved;
  double share;                 /**< of its residual's columns that a token reads on average; 0: it has none */
  uint64_t backbone_bytes, branch_bytes;
  uint64_t branch_read_bytes;   /**< of branch_bytes by each token, on average */
  /** Mean square of what its outputs lost, relative to that of the outputs, on some of the calibration's inputs */
  double loss;
  double loss_left;             /**< the same with branch or residual, before training */
  /** How much nearer the model was measured to come with this matrix as it was, nats a token; 0 where nothing was measured */
  double kl;
  double restored;              /**< the part of it that branch or residual was expected to bring back when it was chosen */
} otr_compressed_matrix;

/** Told of a matrix, in the order of a step. The struct and its text are there while the call lasts; of a newer library it may be longer
 * than yours. */
typedef void (*otr_on_matrix)(void* user, const otr_compressed_matrix* matrix);
/** Told that an interrupted call's work goes on: `is_surveying` 1 while the model is compressed without branches to be measured, and how
 * many layers of it are done. */
typedef void (*otr_on_resume)(void* user, int32_t is_surveying, uint32_t layers_done, uint32_t layers);

/** How to compress a model. */
typedef struct otr_compress_options {
  uint32_t struct_size;
  /** Of a weight's code, 2 to 4 (default 4); a scale and a minimum for group_weights of them take half a bit more, or a quarter */
  int32_t bits;
  uint32_t chunk_tokens;    /**< the calibration is cut into pieces of so many tokens that know nothing of each other; default 512 */
  uint32_t most_chunks;     /**< pieces that are used, spread evenly over what is given; default 32 */
  uint32_t threads;         /**< 0 (default): one for each core */
  uint32_t reserved;
  otr_progress progress;    /**< NULL (default): none */
  void* user;               /**< handed to `progress` */
  const otr_cancel* cancel; /**< stops the compressing; NULL (default): nothing does */
  /** At most so many for what corrects the matrices, low-rank branches and residuals; 0 (default): as many as branch_read_bytes needs */
  uint64_t branch_bytes;
  int32_t factor_bits;      /**< of a branch's factors, 4 (default) or 8 */
  /** How often a matrix with a branch is quantised anew, less what the branch restores (default 2); the best is kept */
  uint32_t rounds;
  /** Instead of `bits`: 2.5 to 4.5 stored bits a weight on average, matrices having 2, 3 or 4 by measured loss; 0 (default): `bits` */
  double mixed_bits;
  int32_t allocation;       /**< of both budgets: an otr_branch_allocation */
  uint32_t polish_steps;    /**< of training, block by block of each layer's; 0 (default): none; 50 is a good number */
  /** How branches are found: 0 (default): the best for the inputs; 1: HCInfer's plain singular vectors, for comparison */
  int32_t method;
  /** 1: keep what is done in `path`.progress until the file is there, and go on from what a call that was cancelled or killed left in it; 0
   * (default): not */
  uint32_t resume;
  /** A token reads at most so many of them on average; 0 (default): no limit. Both 0: nothing is corrected */
  uint64_t branch_read_bytes;
  /** A page in HTML about what was measured, chosen and made, which appears complete or not at all; NULL (default): none */
  const char* report_file;
  /** What a byte of a residual counts as in branch_read_bytes, 1 to 100 (default 1); 3.5 where time is meant, which columns here and there
   * take more of */
  double scattered_read_cost;
  /** Above 0, instead of branch_read_bytes: a token may take so much longer for them on the host of `profile`, the model being in its
   * memory; 0.05 for a twentieth; default 0 */
  double max_slowdown;
  const struct otr_profile* profile; /**< needed for max_slowdown; NULL (default): none */
  int32_t form;                 /**< what matrices are corrected by: an otr_branch_form */
  int32_t polish_scope;         /**< how they are trained: an otr_polish_scope */
  int32_t levels;               /**< an otr_weight_levels */
  /** That share a scale and a minimum, 64 (default) or 128; rows are a multiple of it. With 128 scales take a quarter of a bit, and
   * mixed_bits is 2.25 to 4.25 */
  uint32_t group_weights;
  uint64_t host_bytes;          /**< at most so much memory for what the compressing holds; 0 (default): no limit */
  int32_t polish_target;        /**< what is trained: an otr_polish_target */
  /** An error is made up for by so many columns in turn, group_weights times a number: memory goes with their square; 0 (default): by all
   * of a row where host_bytes has room for that, else by as many as it has */
  uint32_t feedback_columns;
  otr_on_resume on_resume;      /**< called with `user` when a call goes on, on its thread; NULL (default): nobody is told */
  /** Called with `user` for each matrix when the file is there, on the call's thread; NULL (default): nobody is told */
  otr_on_matrix on_matrix;
} otr_compress_options;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_compress_options_init(otr_compress_options* options, uint32_t struct_size);

/** What compressing made. */
typedef struct otr_compress_report {
  uint32_t struct_size;
  uint32_t resumed_windows; /**< parts of layers, that an interrupted call had made: four a layer, of a mixture one for each expert */
  uint64_t input_bytes, output_bytes;        /**< of the files */
  uint64_t backbone_bytes, backbone_weights; /**< of the matrices that were compressed */
  uint64_t calibration_tokens;               /**< that were used */
  uint64_t branch_bytes;                     /**< of all branches' factors, and of residuals */
  uint64_t branch_read_bytes;                /**< of them by each token, on average */
  uint64_t host_peak_bytes;                  /**< of memory held, the most at any time */
  /** Distance from the model, nats a token, on pieces that no step of training used; 0 without training */
  double polish_kl_before, polish_kl_after;
  int32_t polish_scope;                      /**< how it was trained, an otr_polish_scope; OTR_POLISH_AUTO: it was not */
  /** 1: the file is as it was after training; 0: as before, since it came no nearer, or without training */
  int32_t is_polish_kept;
  uint64_t polish_bytes;                     /**< of memory that training was counted to take at most; 0 without training */
  uint64_t host_planned_bytes;               /**< of memory, what was found beforehand to do */
  /** Of backbone_weights those that a token is multiplied with: of a mixture's experts the ones that it takes */
  uint64_t used_weights;
  /** Distance from the model with every matrix in few bits, before anything was chosen, nats a token; 0: it was not measured */
  double survey_kl;
  uint32_t feedback_columns;                 /**< options->feedback_columns, as it was used; 0: all of a row */
  uint32_t reserved;                         /**< 0 */
} otr_compress_report;

/** Writes the model to `path` as one GGUF file in which the matrices of its layers are quantised; the rest stays as it is. It opens like
 * any other model. What an error in one weight does, and how those behind it make up for it, is told by the inputs that each matrix has on
 * the `count` tokens of `calibration`: a text like those that the model is for. The same input gives the same bytes, whatever the number of
 * threads. `report` may be NULL. Cost: 72 s for 135 million parameters and 16,000 tokens on two cores; memory for a matrix as float32, four
 * times over its inputs' width squared, and twice the tokens' vectors, within options->host_bytes; training the model twice as float32, or
 * block by block one layer. The file appears under its name complete, or not at all.
 * Errors: OTR_UNSUPPORTED with the reason when the model cannot run, has rows of no multiple of group_weights, or is a mixture of experts
 * and polish_steps is not 0; OTR_INVALID_ARGUMENT also for matrices that have no more bits a weight than are asked for, tokens outside the
 * vocabulary, fewer of them than a chunk, weights that are no numbers (subject), or a `path` that is the model's own file; OTR_BUDGET with
 * the bytes needed and given when host_bytes is not enough; OTR_IO; OTR_CANCELLED. Since 0.1, stable. */
OTR_C_API otr_status otr_model_compress(const otr_model* model, const int32_t* calibration, size_t count, const char* path,
                                        const otr_compress_options* options, otr_compress_report* report, otr_error* error);

/** How to export a compressed model. */
typedef struct otr_export_options {
  uint32_t struct_size;
  uint32_t reserved;
  const char* adapter_path; /**< where the low-rank branches go; NULL (default): they are left out */
  otr_progress progress;    /**< NULL (default): none */
  void* user;               /**< handed to `progress` */
  const otr_cancel* cancel; /**< stops the exporting; NULL (default): nothing does */
} otr_export_options;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_export_options_init(otr_export_options* options, uint32_t struct_size);

/** What exporting made. */
typedef struct otr_export_report {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t input_bytes, backbone_bytes; /**< of the files */
  uint64_t adapter_bytes;               /**< of the file; 0 without one */
  uint64_t recoded_matrices;            /**< of the backbone: those whose format other engines do not have */
  uint64_t branches;                    /**< that the model has: in the adapter, or left out */
  /** The most that rounding changed a branch's factor: root mean square, relative to the factor's own */
  double adapter_error;
} otr_export_report;

/** Writes a compressed model for other engines: to `backbone_path` an ordinary GGUF file with the same weights, its matrices in Q4_1, or
 * where their levels are a codebook's in float16, which rounds weights; and to options->adapter_path an ordinary GGUF LoRA adapter of it,
 * the low-rank branches, to be used with the scale 1. `report` may be NULL. Each file appears under its name complete, replacing what stood
 * there, or not at all; the adapter first, so that a backbone has its adapter. At most some 16 MiB of weights are in memory at once, and a
 * head's rows. Errors: OTR_UNSUPPORTED when the model cannot run, was packed, or has residuals of which tokens read a part, which no other
 * engine computes; OTR_INVALID_ARGUMENT also when it was not compressed, when an adapter is asked for and there are no branches, and when a
 * path is the model's own or both are one; OTR_IO when the model cannot be read or has changed, or a path cannot be written; OTR_CANCELLED.
 * Since 0.1, stable. */
OTR_C_API otr_status otr_model_export(const otr_model* model, const char* backbone_path, const otr_export_options* options,
                                      otr_export_report* report, otr_error* error);

/* ---- Tokens and text ---- */

/** Flags of otr_model_tokenize, to be added. */
enum otr_tokenize_flags {
  OTR_TOKENIZE_ADD_SPECIAL = 1,  /**< put the begin (and end) token around the text as the model's settings ask */
  OTR_TOKENIZE_PARSE_SPECIAL = 2 /**< turn the text of special tokens into those tokens; never for what a user wrote */
};

/** Flags of otr_model_detokenize, otr_model_token_text and otr_text_stream_create. */
enum otr_text_flags {
  OTR_TEXT_WITH_SPECIAL = 1 /**< special tokens give their text; without it they give none */
};

/** One turn of a conversation. This struct never changes. */
typedef struct otr_chat_message {
  const char* role;     /**< "system", "user" or "assistant" */
  const char* content;  /**< plain text whatever it says; may be NULL if content_bytes is 0 */
  size_t content_bytes;
} otr_chat_message;

/** The tokens of `text`, which may be any bytes: invalid UTF-8 becomes the tokens of its bytes. `flags` 0, or otr_tokenize_flags.
 * `tokens` has room for `capacity` tokens; *count is their number. Linear time in the length.
 * Errors: OTR_UNSUPPORTED when the file has no usable tokenizer. Since 0.1, stable. */
OTR_C_API otr_status otr_model_tokenize(const otr_model* model, const char* text, size_t text_bytes, uint32_t flags, int32_t* tokens,
                                        size_t capacity, size_t* count, otr_error* error);

/** The tokens of a conversation, ending where the assistant is to speak. Special tokens come from the template only. `template_name` is
 * one of otr_chat_template_name(); NULL or "" means the file's own.
 * Errors: OTR_UNSUPPORTED with the list of names when there is no such template or the file's own is not recognised; OTR_INVALID_ARGUMENT
 * for an unknown role or an order the template cannot express. Since 0.1, stable. */
OTR_C_API otr_status otr_model_chat(const otr_model* model, const otr_chat_message* messages, size_t message_count,
                                    const char* template_name, int32_t* tokens, size_t capacity, size_t* count, otr_error* error);

/** The name of chat template `index`, counted from 0; NULL past the last. Valid for ever. Since 0.1, stable. */
OTR_C_API const char* otr_chat_template_name(size_t index);

/** The text of a sequence of tokens; it may end within a character when the tokens do. `flags` 0 or otr_text_flags.
 * Errors: OTR_INVALID_ARGUMENT for an id outside the vocabulary; OTR_UNSUPPORTED without a usable tokenizer. Since 0.1, stable. */
OTR_C_API otr_status otr_model_detokenize(const otr_model* model, const int32_t* tokens, size_t token_count, uint32_t flags, char* text,
                                          size_t capacity, size_t* bytes, otr_error* error);

/** The bytes of one token, as otr_model_detokenize would write it in mid-text; they need not be whole characters. Errors: the same.
 * Since 0.1, stable. */
OTR_C_API otr_status otr_model_token_text(const otr_model* model, int32_t token, uint32_t flags, char* text, size_t capacity,
                                          size_t* bytes, otr_error* error);

/** Sets *ends to 1 if generation should stop at this token (end of text, end of a turn), else to 0. Errors: the same. Since 0.1, stable. */
OTR_C_API otr_status otr_model_token_ends_generation(const otr_model* model, int32_t token, int32_t* ends, otr_error* error);

/** Turns a stream of tokens into text without ever splitting a UTF-8 character. One thread at a time. */
typedef struct otr_text_stream otr_text_stream;

/** Starts a stream. `flags` 0 or otr_text_flags. Errors: OTR_UNSUPPORTED without a usable tokenizer. Since 0.1, stable. */
OTR_C_API otr_status otr_text_stream_create(const otr_model* model, uint32_t flags, otr_text_stream** stream, otr_error* error);

/** Adds a token. *text is the text that became complete with it, often empty; it belongs to the stream, is NUL-terminated and is valid
 * until the next call on the stream. Since 0.1, stable. */
OTR_C_API otr_status otr_text_stream_push(otr_text_stream* stream, int32_t token, const char** text, size_t* bytes, otr_error* error);

/** What is left: an unfinished character becomes U+FFFD. *text as for otr_text_stream_push. Since 0.1, stable. */
OTR_C_API otr_status otr_text_stream_finish(otr_text_stream* stream, const char** text, size_t* bytes, otr_error* error);

/** Frees the stream. Since 0.1, stable. */
OTR_C_API void otr_text_stream_close(otr_text_stream** stream);

/* ---- Machine profile ---- */

/** The rates of a machine, measured or given: what a plan's predictions rest on. Immutable. */
typedef struct otr_profile otr_profile;

/** What to measure. */
typedef struct otr_profile_options {
  uint32_t struct_size;
  uint32_t threads;        /**< 0 (default): the physical cores this process may use */
  const char* disk_path;   /**< a file of some MiB on the disk to measure, usually the model; NULL (default): no disk */
  double seconds_per_lane; /**< time to spend on each figure; default 0.1 */
} otr_profile_options;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_profile_options_init(otr_profile_options* options, uint32_t struct_size);

/** Measures this machine. Cost: about six times seconds_per_lane, and 64 MiB of memory for as long. The file is only read.
 * Errors: OTR_NOT_FOUND, OTR_IO for disk_path. Since 0.1, stable. */
OTR_C_API otr_status otr_profile_measure(const otr_profile_options* options, otr_profile** profile, otr_error* error);

/** A profile from its JSON document, perhaps that of a machine one does not have. Unknown fields are ignored, missing rates are an
 * OTR_INVALID_ARGUMENT that names them. Since 0.1, stable. */
OTR_C_API otr_status otr_profile_from_json(const char* json, size_t json_bytes, otr_profile** profile, otr_error* error);

/** The JSON document of a profile; otr_profile_from_json reads back the same. Since 0.1, stable. */
OTR_C_API otr_status otr_profile_to_json(const otr_profile* profile, char* json, size_t capacity, size_t* bytes, otr_error* error);

/** Frees the profile. Since 0.1, stable. */
OTR_C_API void otr_profile_close(otr_profile** profile);

/* ---- Plan ---- */

/** Where every tensor lives, what streams, what it will cost. Immutable plain data; holds no memory of the model. */
typedef struct otr_plan otr_plan;

/** A budget for otr_plan_options: 90 % of the smaller of available memory and the cgroup's limit. 0 means no limit. */
#define OTR_BUDGET_DEFAULT UINT64_MAX

/** Values of kv_type: what keys and values are stored as. */
enum otr_kv_type_values {
  OTR_KV_F16 = 0,
  OTR_KV_F32 = 1, /**< twice the bytes: for the float32 reference */
  OTR_KV_Q8_0 = 2 /**< 17/32 of the bytes: 8-bit codes, a float16 scale for 32 elements; heads must be a multiple of 32 elements */
};

/** For otr_plan_options.kv_spilled_layers: as many as the budget asks for, or as the prediction is best with. */
#define OTR_KV_SPILL_AS_IT_PAYS UINT32_MAX

/** For otr_plan_options.corrections. */
enum otr_correction_places {
  OTR_CORRECTIONS_AS_IT_PAYS = 0,
  OTR_CORRECTIONS_ON_DEVICE = 1,
  OTR_CORRECTIONS_ON_HOST = 2 /**< while the device multiplies; residuals always are */
};

/** For otr_plan_options.stand_ins: low-bit copies of the weights that stream from disk, with which the model drafts for itself
 * (OTR_DRAFT_SELF). */
enum otr_stand_ins {
  OTR_STAND_INS_NONE = 0,
  OTR_STAND_INS_AS_IT_PAYS = 1, /**< where tokens are predicted to come faster with them, as _AS_FIT */
  OTR_STAND_INS_TWO_BITS = 2,
  OTR_STAND_INS_THREE_BITS = 3,
  OTR_STAND_INS_FOUR_BITS = 4,
  OTR_STAND_INS_AS_FIT = 5 /**< of as many bits as fit; none where nothing streams, or where branches are what a draft leaves out */
};

/** Most tokens of one draft, and of one that is a tree. */
#define OTR_MOST_DRAFT_TOKENS 16
#define OTR_MOST_TREE_DRAFT_TOKENS 31

/** What to plan for. */
typedef struct otr_plan_options {
  uint32_t struct_size;
  uint32_t threads;             /**< 0 (default): the profile's, or the physical cores this process may use */
  /** Everything counted: weights, KV cache, activations, scratch. Default: OTR_BUDGET_DEFAULT; 0: no limit */
  uint64_t host_budget_bytes;
  uint64_t device_budget_bytes; /**< the same of the memory of the profile's device, never more than it has; ignored without one */
  uint32_t prompt_tokens;       /**< default 512 */
  uint32_t new_tokens;          /**< default 128 */
  /** Sessions that exist at once, each with its own KV cache, and of which a step of decoding has a token each; default 1 */
  uint32_t batch;
  uint32_t context_tokens;      /**< of each session; 0 (default): prompt_tokens + new_tokens */
  uint32_t logit_rows;          /**< most tokens of one step whose logits are wanted; default 1 */
  int32_t kv_type;              /**< OTR_KV_F16 (default), _F32, _Q8_0 */
  uint32_t kv_spilled_layers;   /**< layers whose keys and values are on disk; default OTR_KV_SPILL_AS_IT_PAYS */
  int32_t corrections;          /**< where branches are computed whose matrices a device computes with: OTR_CORRECTIONS_... */
  /** How much longer a step of decoding may take for branches and residuals, 0.05 for a twentieth; below 0 (default): any */
  double max_slowdown;
  /** Room for drafts of so many tokens, of each session of the batch, up to OTR_MOST_TREE_DRAFT_TOKENS; default 0 */
  uint32_t draft_tokens;
  int32_t stand_ins;            /**< OTR_STAND_INS_NONE (default), ...; the others need draft_tokens and no draft_bytes */
  uint64_t draft_bytes;         /**< of host memory, kept for a draft model: otr_model_draft_bytes of it; default 0 */
  /** Of the device's, for a draft model that computes there: otr_model_draft_device_bytes, which says draft_bytes too; default 0 */
  uint64_t draft_device_bytes;
  /** How texts come back to a mixture's experts: where a share s of all experts has room in memory, a token is expected to find all but
   * (1 - s)^expert_repetition of its experts there. 1 (default) to 32: as if each were as likely as any; an otr_expert_report has what a
   * run measured */
  double expert_repetition;
} otr_plan_options;

/** A plan in figures; otr_plan_to_json has all of it. The text belongs to the plan and is valid until it is closed. */
typedef struct otr_plan_summary {
  uint32_t struct_size;                 /**< set by the caller: sizeof(otr_plan_summary) */
  uint32_t threads;
  uint64_t host_budget_bytes;           /**< 0: no limit */
  uint64_t host_planned_bytes;          /**< never above the budget */
  uint64_t host_minimum_bytes;          /**< the smallest feasible budget for this workload */
  uint64_t device_budget_bytes;
  uint64_t device_planned_bytes;
  uint64_t device_minimum_bytes;
  uint64_t resident_tensors;
  uint64_t streamed_tensors;
  uint64_t streamed_bytes_per_token;    /**< read from disk by one step of decode */
  double predicted_prefill_ms;          /**< of the workload's whole prompt */
  double predicted_decode_tokens_per_s; /**< of all sessions of the batch together */
  const char* binding_lane;             /**< the lane that is busy longest in a decode step: "disk", "host", "h2d" or "device" */
  uint32_t batch;
  uint32_t context_tokens;              /**< of each session */
  uint32_t logit_rows;
  uint32_t step_tokens;                 /**< most tokens in one step: the prefill chunk */
  int32_t kv_type;                      /**< otr_kv_type_values */
  uint32_t self_draft_bits;             /**< of the copies that the model drafts for itself with; 0: there are none */
  uint64_t device_resident_tensors;     /**< of the resident ones, in the device's memory */
  uint64_t device_streamed_tensors;     /**< of the streamed ones, from host memory to the device and not from disk */
  uint64_t device_bytes_per_token;      /**< of weights, copied to the device by one step of decode */
  uint32_t device_from_tokens;          /**< tokens of the smallest step that streams weights to the device; 0: none does */
  uint32_t device_slots;                /**< that they pass through */
  uint64_t device_slot_bytes;           /**< of each */
  uint32_t kv_layers;                   /**< layers that have keys and values */
  uint32_t kv_spilled_layers;           /**< of these, those that keep them on disk */
  uint64_t kv_spill_bytes;              /**< taken on disk for them when an engine is opened */
  uint64_t kv_disk_bytes_per_token;     /**< of keys and values, read from disk and written there by one step of decode */
  uint64_t draft_bytes;                 /**< of host_planned_bytes, for the copies or a draft model */
  double draft_tokens_per_pass;         /**< as expected of the copies: of a step that verifies their draft, */
  double predicted_draft_tokens_per_s;  /**< and of decoding with them; 0 without */
  uint64_t draft_device_bytes;          /**< of device_planned_bytes, for a draft model that computes there */
} otr_plan_summary;

/** What a draft model is expected to give a plan. */
typedef struct otr_draft_forecast {
  uint32_t struct_size;        /**< set by the caller: sizeof(otr_draft_forecast) */
  uint32_t tokens;             /**< of the draft that is worth most; 0: plain steps are as fast */
  uint32_t groups;             /**< 2: with two groups, one drafting beside the other's pass (otr_batch_options.groups) */
  uint32_t reserved;           /**< 0 */
  double tokens_per_pass;      /**< of a session */
  double tokens_per_s;         /**< of all sessions together */
  double plain_tokens_per_s;   /**< the same by this plan without a draft */
  double draft_step_ms;        /**< of the draft: a step with a token of each session, where the plan has its bytes */
  double draft_read_ms;        /**< of a prompt's token, which the draft reads once before its first draft: in none of the rates above */
} otr_draft_forecast;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_plan_options_init(otr_plan_options* options, uint32_t struct_size);

/** Decides where every tensor lives, before any weight is read. With a profile it is pure: it touches no memory, disk or device.
 * `profile` NULL: this machine is measured once for each model handle and number of threads, which takes some tenths of a second and
 * 64 MiB for as long; a program that must stay below that, or wants the same plan every time, gives a profile.
 * Errors: OTR_BUDGET with needed_bytes when the budget is below the smallest feasible one; OTR_INVALID_ARGUMENT for a workload of zero
 * tokens or beyond the model's context; OTR_UNSUPPORTED with the reason when the model cannot run, or when stand_ins are asked for and
 * there can be none (a mixture of experts, branches, rows that are not whole blocks of 64, a device); those of otr_profile_measure.
 * Since 0.1, stable. */
OTR_C_API otr_status otr_plan_make(const otr_model* model, const otr_profile* profile, const otr_plan_options* options, otr_plan** plan,
                                   otr_error* error);

/** Host memory that a draft model takes, all of it resident, for a conversation of so many tokens: otr_plan_options.draft_bytes. `threads`:
 * those of the plan that it drafts under. Errors: OTR_UNSUPPORTED when the model cannot run; OTR_INVALID_ARGUMENT. Since 0.1, stable. */
OTR_C_API otr_status otr_model_draft_bytes(const otr_model* draft, uint32_t context_tokens, uint32_t threads, uint64_t* bytes,
                                           otr_error* error);

/** The same for a model that drafts for `texts` texts of a batch at once, each of so many tokens at most. Since 0.1, stable. */
OTR_C_API otr_status otr_model_draft_batch_bytes(const otr_model* draft, uint32_t context_tokens, uint32_t threads, uint32_t texts,
                                                 uint64_t* bytes, otr_error* error);

/** The same for a model that drafts on its target's device, which `profile` has: otr_plan_options.draft_bytes and .draft_device_bytes.
 * Errors: also OTR_INVALID_ARGUMENT for a profile without a device, OTR_UNSUPPORTED when a device would compute nothing of the model. Since
 * 0.1, stable. */
OTR_C_API otr_status otr_model_draft_device_bytes(const otr_model* draft, const otr_profile* profile, uint32_t context_tokens,
                                                  uint32_t texts, uint64_t* host_bytes, uint64_t* device_bytes, otr_error* error);

/** What `draft` is expected to give `plan`, a plan for `model` with draft_tokens: lengths up to these, in one group or two, are compared by
 * the tokens that passes give for what they and their drafts take. `accepted[i]` is the chance that a draft is accepted up to and with its
 * token i, as otr_generate_result.chain_accepted_at is of chain_drafted_at, `count` of them, at most OTR_MOST_DRAFT_TOKENS; those behind
 * count as 0. NULL, with a count of 0: of a draft that was never tried, 0.6, 0.36, ... The draft computes on the device where the plan has
 * bytes for it there. `profile` NULL: the machine is measured as in otr_plan_make; with one the forecast is pure.
 * Errors: OTR_INVALID_ARGUMENT for a plan that is not the model's, or something that is no chance; OTR_UNSUPPORTED as otr_plan_make, of
 * either model; those of otr_profile_measure. Since 0.1, stable. */
OTR_C_API otr_status otr_plan_forecast_draft(const otr_plan* plan, const otr_model* model, const otr_model* draft,
                                             const otr_profile* profile, const double* accepted, size_t count, otr_draft_forecast* forecast,
                                             otr_error* error);

/** A picture of the plan as an SVG file: lanes over time in a decoding step and in one of the prompt, memory against the budget, what of
 * each layer is resident. `profile` has the rates that the steps are drawn by; NULL: the machine is measured as in otr_plan_make.
 * Errors: OTR_INVALID_ARGUMENT for a plan that is not the model's; OTR_UNSUPPORTED as otr_plan_make, and for a plan of more than 2^22 units
 * of streamed weights. Since 0.1, stable. */
OTR_C_API otr_status otr_plan_to_svg(const otr_plan* plan, const otr_model* model, const otr_profile* profile, char* svg, size_t capacity,
                                     size_t* bytes, otr_error* error);

/** The same as an HTML page of its own, with the alternatives, the plan's text and a table of its tensors; it runs no script and needs no
 * other file. Since 0.1, stable. */
OTR_C_API otr_status otr_plan_to_html(const otr_plan* plan, const otr_model* model, const otr_profile* profile, char* html, size_t capacity,
                                      size_t* bytes, otr_error* error);

/** A plan from its JSON document, to replay it. Whether it suits a model is checked by otr_engine_open.
 * Errors: OTR_INVALID_ARGUMENT naming the field. Since 0.1, stable. */
OTR_C_API otr_status otr_plan_from_json(const char* json, size_t json_bytes, otr_plan** plan, otr_error* error);

/** The JSON document of a plan, with everything needed to replay it. Since 0.1, stable. */
OTR_C_API otr_status otr_plan_to_json(const otr_plan* plan, char* json, size_t capacity, size_t* bytes, otr_error* error);

/** A table that a person reads in ten seconds. Its form may change with any version. Since 0.1, stable. */
OTR_C_API otr_status otr_plan_to_text(const otr_plan* plan, char* text, size_t capacity, size_t* bytes, otr_error* error);

/** Fills *summary. Since 0.1, stable. */
OTR_C_API otr_status otr_plan_get_summary(const otr_plan* plan, otr_plan_summary* summary, otr_error* error);

/** Frees the plan; an engine opened with it has its own copy. Since 0.1, stable. */
OTR_C_API void otr_plan_close(otr_plan** plan);

/* ---- Engine ---- */

/** A model placed in memory by a plan, ready to run sessions. Steps of different sessions run one after the other. */
typedef struct otr_engine otr_engine;

/** Values of otr_engine_options.numerics. */
enum otr_numerics_values {
  OTR_NUMERICS_FAST = 0,   /**< activations rounded to int8 per 32 elements */
  OTR_NUMERICS_FLOAT32 = 1 /**< activations stay float32: the reference, several times slower */
};

/** How to open an engine. */
typedef struct otr_engine_options {
  uint32_t struct_size;
  int32_t numerics;         /**< OTR_NUMERICS_FAST (default), _FLOAT32 */
  const char* device; /**< "cpu"; NULL (default) means that; "cuda[:N]" or "emulated:memory=SIZE,link=RATE" for plans that use a device */
  otr_progress progress;    /**< of loading; NULL (default): none */
  void* user;               /**< handed to `progress` */
  const otr_cancel* cancel; /**< stops the loading; NULL (default): nothing does */
  uint64_t trace_events;    /**< latest events of each lane to keep for otr_engine_write_trace, about 32 bytes an event and lane and 40 more
                                 beside the budgets; 0 (default): no trace */
  const char* spill_directory; /**< a directory on a disk, where keys and values go that the plan has no memory for; NULL (default): TMPDIR,
                                    or /var/tmp */
} otr_engine_options;

/** Values of `tier`. */
enum otr_tier_values { OTR_TIER_DISK = 0, OTR_TIER_HOST = 1, OTR_TIER_DEVICE = 2 };

/** Bytes of one tier: allowed, planned, in use now, and the most that ever was in use; then what is in use now by purpose. */
typedef struct otr_memory_report {
  uint32_t struct_size;      /**< set by the caller: sizeof(otr_memory_report) */
  int32_t tier;              /**< the one it is about */
  uint64_t budget_bytes;     /**< 0: no limit */
  uint64_t planned_bytes;
  uint64_t current_bytes;
  uint64_t peak_bytes;
  uint64_t weights_resident_bytes;
  uint64_t stream_slots_bytes;
  uint64_t kv_cache_bytes;
  uint64_t activations_bytes;
  uint64_t draft_bytes;
  uint64_t branches_bytes;
  uint64_t other_bytes;
  uint64_t experts_bytes;    /**< slots for the experts of a mixture that are not all resident */
} otr_memory_report;

/** Bytes moved since the engine was opened, loading not counted. */
typedef struct otr_stream_report {
  uint32_t struct_size; /**< set by the caller: sizeof(otr_stream_report) */
  uint32_t reserved;
  uint64_t disk_bytes;       /**< of the model's file */
  uint64_t h2d_bytes;
  uint64_t d2h_bytes;
  uint64_t kv_read_bytes;    /**< of keys and values, from disk */
  uint64_t kv_written_bytes; /**< the same, to disk */
} otr_stream_report;

/** Experts of a mixture since the engine was opened; all 0 where every expert is resident, or the model has none. */
typedef struct otr_expert_report {
  uint32_t struct_size;   /**< set by the caller: sizeof(otr_expert_report) */
  uint32_t reserved;
  uint64_t uses;          /**< an expert of a layer in a step, whatever the number of tokens that go through it */
  uint64_t hits;          /**< of these, in memory when the layer was routed */
  uint64_t reads;         /**< experts read from disk, guesses included */
  uint64_t guesses;       /**< experts not in memory that were guessed before their layer was routed */
  uint64_t right_guesses; /**< of these, used */
  uint64_t token_uses;    /**< of `uses`, where a step took no more of a layer than a token does */
  uint64_t token_hits;    /**< of these, in memory without a guess */
  /** What a plan for such texts would count on: otr_plan_options.expert_repetition; 1 before anything was counted */
  double repetition;
} otr_expert_report;

/** What the engine's device was given since it was opened, a draft's that computes there included; all 0 without a device. */
typedef struct otr_device_report {
  uint32_t struct_size;      /**< set by the caller: sizeof(otr_device_report) */
  uint32_t reserved;
  uint64_t operations;       /**< a product with a matrix, a layer's attention, ... */
  uint64_t launches;         /**< of kernels and graphs, for these operations */
  uint64_t graphs;           /**< of these launches, of operations that came before in the same order, together */
  uint64_t graph_operations; /**< of the operations, those of such launches */
  uint64_t handoffs;         /**< times that host and device took turns within a step without a copy */
} otr_device_report;

/** How long each lane worked during some steps, of which the trace holds every event: the host without its waits for what is read from
 * disk. */
typedef struct otr_lane_busy {
  uint32_t struct_size; /**< set by the caller: sizeof(otr_lane_busy) */
  uint32_t reserved;
  uint64_t steps;       /**< how many; 0 when the engine keeps no trace */
  double wall_ms;       /**< their own time; what lies between steps does not count */
  double disk_ms;
  double h2d_ms;
  double d2h_ms;
  double host_ms;
  double device_ms;
} otr_lane_busy;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_engine_options_init(otr_engine_options* options, uint32_t struct_size);

/** Reserves every byte of the plan, starts its threads, reads and packs the weights that are resident.
 * Errors: OTR_UNSUPPORTED with the reason when the model cannot run; OTR_INVALID_ARGUMENT when the plan is not this model's;
 * OTR_UNAVAILABLE for a device that is not there; OTR_IO, OTR_CORRUPT_FILE, OTR_CANCELLED. Nothing is kept after a failure. Since 0.1,
 * stable. */
OTR_C_API otr_status otr_engine_open(const otr_model* model, const otr_plan* plan, const otr_engine_options* options, otr_engine** engine,
                                     otr_error* error);

/** Frees the engine once its last session is closed. Since 0.1, stable. */
OTR_C_API void otr_engine_close(otr_engine** engine);

/** Fills *report for OTR_TIER_HOST or OTR_TIER_DEVICE. Any time, any thread. Since 0.1, stable. */
OTR_C_API otr_status otr_engine_get_memory(const otr_engine* engine, int32_t tier, otr_memory_report* report, otr_error* error);

/** Fills *report. Any time, any thread. Since 0.1, stable. */
OTR_C_API otr_status otr_engine_get_streamed(const otr_engine* engine, otr_stream_report* report, otr_error* error);
/** Places the weights anew as another plan says, under a lower or a higher budget: between steps, with every session as it is. The plan
 * must have room for the caches of the sessions that are open, with the same layers' keys and values on disk. `options` (NULL: none) gives
 * progress and cancellation; its other fields are not looked at.
 * Errors: OTR_INVALID_ARGUMENT, then nothing has changed; others as otr_engine_open: no weights are in memory then, and steps are
 * OTR_UNAVAILABLE until a call succeeds. Waits for a running step. Any thread. Since 0.1, stable. */
OTR_C_API otr_status otr_engine_replan(otr_engine* engine, const otr_plan* plan, const otr_engine_options* options, otr_error* error);

/** The experts' report. Errors: OTR_INVALID_ARGUMENT. Any thread. Since 0.1, stable. */
OTR_C_API otr_status otr_engine_get_experts(const otr_engine* engine, otr_expert_report* report, otr_error* error);

/** Fills *report. Errors: OTR_INVALID_ARGUMENT. Any time, any thread. Since 0.1, stable. */
OTR_C_API otr_status otr_engine_get_device(const otr_engine* engine, otr_device_report* report, otr_error* error);

/** Fills *busy for the latest `most_steps` steps, or as many as the trace holds whole; UINT64_MAX asks for all of them. Waits for a running
 * step. Any thread. Since 0.1, stable. */
OTR_C_API otr_status otr_engine_lane_busy(const otr_engine* engine, uint64_t most_steps, otr_lane_busy* busy, otr_error* error);

/** Writes the trace as JSON trace events, which ui.perfetto.dev and chrome://tracing open: a track for each lane, an event for each node
 * that ran and for each step. Waits for a running step; the file appears complete or not at all. Any thread.
 * Errors: OTR_INVALID_ARGUMENT when trace_events was 0; OTR_IO. Since 0.1, stable. */
OTR_C_API otr_status otr_engine_write_trace(const otr_engine* engine, const char* path, otr_error* error);

/* ---- Sampler ---- */

/** Draws the next token from logits. One per stream of text; one thread at a time. */
typedef struct otr_sampler otr_sampler;

/** Applied in this order: repetition penalty, temperature, top-k, top-p, min-p, then one draw. The defaults give greedy decoding. */
typedef struct otr_sampling_options {
  uint32_t struct_size;
  float temperature;          /**< 0 (default): the most likely token, whatever the rest says; else logits are divided by it */
  int32_t top_k;              /**< keep the k most likely; 0 (default): all */
  float top_p;                /**< keep the smallest set whose probabilities sum to at least p; 1 (default): all */
  float min_p;                /**< keep tokens at least this share as likely as the most likely one; 0 (default): all */
  float repeat_penalty;       /**< logits of recent tokens: divided by it when positive, multiplied when negative; 1 (default): off */
  int32_t repeat_last_tokens; /**< how far back the penalty looks; -1: the whole context; default 64 */
  uint32_t reserved;
  uint64_t seed;              /**< the same seed, options and logits draw the same tokens on every machine */
} otr_sampling_options;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_sampling_options_init(otr_sampling_options* options, uint32_t struct_size);

/** Makes a sampler. Errors: OTR_INVALID_ARGUMENT naming the option, its value and its range. Since 0.1, stable. */
OTR_C_API otr_status otr_sampler_create(const otr_sampling_options* options, otr_sampler** sampler, otr_error* error);

/** The next token for `logits` [logit_count], given the tokens so far for the penalty (may be NULL if history_count is 0). Ties go to the
 * lower id; NaN counts as minus infinity. Errors: OTR_INVALID_ARGUMENT for no logits or when all are minus infinity. Since 0.1, stable. */
OTR_C_API otr_status otr_sampler_sample(otr_sampler* sampler, const float* logits, size_t logit_count, const int32_t* history,
                                        size_t history_count, int32_t* token, otr_error* error);

/** Frees the sampler. Since 0.1, stable. */
OTR_C_API void otr_sampler_close(otr_sampler** sampler);

/* ---- Session ---- */

/** One conversation: its tokens, its KV cache, and the calls that extend it. One thread at a time. */
typedef struct otr_session otr_session;

/** How to open a session. */
typedef struct otr_session_options {
  uint32_t struct_size;
  uint32_t context_tokens; /**< most tokens it can hold; 0 (default): the plan's */
} otr_session_options;

/** How to prefill. */
typedef struct otr_prefill_options {
  uint32_t struct_size;
  uint32_t reserved;
  otr_progress progress;    /**< NULL (default): none */
  void* user;               /**< handed to `progress` */
  const otr_cancel* cancel; /**< NULL (default): nothing stops it */
} otr_prefill_options;

/** Gets the logits [count] of what follows token `index` of those given to otr_session_evaluate; valid while the callback runs. */
typedef void (*otr_on_logits)(void* user, size_t index, const float* logits, size_t count);

/** How to evaluate. */
typedef struct otr_evaluate_options {
  uint32_t struct_size;
  uint32_t reserved;
  otr_on_logits on_logits;  /**< required; to stop early it triggers `cancel` */
  void* user;               /**< handed to `on_logits` */
  const otr_cancel* cancel; /**< NULL (default): nothing stops it */
} otr_evaluate_options;

/** Gets one generated token and the UTF-8 text that became complete with it: often part of a word, sometimes empty, never half a
 * character, not NUL-terminated, valid while the callback runs. Text that was held back because it might have become a stop text comes at
 * the end with token -1. Return 0 to go on, anything else to stop. */
typedef int32_t (*otr_on_token)(void* user, int32_t token, const char* text, size_t bytes);

/** Who proposes the tokens that one step verifies. What is generated is the model's own: the very tokens of plain decoding if greedy or
 * with _AUTO and _NGRAM, otherwise tokens drawn from the same distribution. */
enum otr_draft_kinds {
  OTR_DRAFT_NONE = 0,
  /** _SELF where the plan has stand-ins and nothing is drawn, else _NGRAM, while it pays and where the plan has room for it */
  OTR_DRAFT_AUTO = 1,
  OTR_DRAFT_NGRAM = 2, /**< what followed the last tokens when they stood in the text before */
  /** A compressed model without its branches, for itself with them; or a model with otr_plan_options.stand_ins for itself */
  OTR_DRAFT_SELF = 3,
  OTR_DRAFT_MODEL = 4  /**< another model of the same vocabulary */
};

/** What is proposed. */
enum otr_draft_shapes {
  OTR_DRAFT_SHAPE_AUTO = 0,  /**< _CHAIN, and _TREE where it is measured to be faster; of a fixed number of tokens always _CHAIN */
  OTR_DRAFT_SHAPE_CHAIN = 1, /**< one continuation */
  OTR_DRAFT_SHAPE_TREE = 2   /**< several, of which the step that verifies them takes the best */
};

/** How to generate. */
typedef struct otr_generate_options {
  uint32_t struct_size;
  uint32_t max_tokens;                  /**< default 128 */
  const otr_sampling_options* sampling; /**< NULL (default): greedy */
  const char* const* stop;              /**< generation ends before the first of these texts, which is not part of the result */
  size_t stop_count;                    /**< default 0 */
  int32_t ignore_eos;                   /**< 1: go on after an end token; default 0 */
  uint32_t reserved;
  otr_on_token on_token;                /**< NULL (default): none */
  otr_progress prefill_progress;        /**< NULL (default): none */
  void* user;                           /**< handed to both callbacks */
  const otr_cancel* cancel;             /**< NULL (default): nothing stops it */
  int32_t draft;                        /**< OTR_DRAFT_NONE (default), ... */
  /** Most tokens of a draft, up to OTR_MOST_DRAFT_TOKENS (_TREE_ for a tree) and what the plan has room for; 0 (default): as many as pay */
  uint32_t draft_tokens;
  const char* draft_path;               /**< of OTR_DRAFT_MODEL; NULL (default) for the others */
  int32_t draft_shape;                  /**< OTR_DRAFT_SHAPE_AUTO (default), ... */
  uint32_t reserved_too;
} otr_generate_options;

/** Values of otr_generate_result.stop_reason. */
enum otr_stop_reason_values {
  OTR_STOP_LENGTH = 0,   /**< max_tokens, or the context is full */
  OTR_STOP_EOS = 1,      /**< the model ended its text or turn */
  OTR_STOP_TEXT = 2,     /**< one of the stop texts */
  OTR_STOP_CANCELLED = 3 /**< a callback or the cancel flag; the tokens so far are valid */
};

/** What came of a generation; the tokens and the text themselves are otr_session_generated_tokens and _text. */
typedef struct otr_generate_result {
  uint32_t struct_size;           /**< set by the caller: sizeof(otr_generate_result) */
  int32_t stop_reason;            /**< otr_stop_reason_values */
  uint64_t prompt_tokens;
  uint64_t generated_tokens;      /**< without the token that ended generation */
  uint64_t text_bytes;
  double prefill_ms;
  double prefill_tokens_per_s;
  double time_to_first_token_ms;
  double decode_ms;               /**< from the first token to the last */
  double decode_tokens_per_s;     /**< tokens after the first over decode_ms; 0 for fewer than two */
  int32_t draft;                  /**< who proposed: OTR_DRAFT_SELF or _NGRAM for _AUTO, OTR_DRAFT_NONE where nobody could */
  int32_t draft_auto_off;         /**< 1: the draft was given up when generation ended, because it lost */
  uint64_t passes;                /**< steps that made the tokens after the first, with a draft to ask; 0 without one */
  uint64_t drafted_tokens;
  uint64_t accepted_tokens;       /**< of these, those that the model said too */
  double tokens_per_pass;
  uint64_t accepted_at[OTR_MOST_DRAFT_TOKENS]; /**< accepted_tokens by their place in the draft, which in a tree is their depth */
  uint64_t tree_passes;           /**< of the passes, those whose draft was a tree and no chain */
  /** Of the passes, those whose draft was copied from the text where OTR_DRAFT_AUTO otherwise drafts with the model */
  uint64_t quoted_passes;
  uint64_t following_steps;       /**< decode steps whose share of branches followed the load (otr_session_follow_load); 0: it was fixed */
  double mean_branch_share;       /**< of these */
  double branch_slowdown;         /**< as otr_branch_use.slowdown, of these */
  double expected_accepted_tokens; /**< what accepted_tokens was expected to be, by what had been accepted before each pass */
  /** drafted_tokens by their place, as accepted_at: accepted_at[i] / drafted_at[i] is how often place i was accepted */
  uint64_t drafted_at[OTR_MOST_DRAFT_TOKENS];
  double draft_ms;                /**< what the passes' drafts took, without reading the prompt; in a batch those of all texts of a step */
  double verify_ms;               /**< what the passes took; in a batch all of a step */
  /** With draft_auto_off: what a token was expected to take with the best draft when it was given up; else 0 */
  double ms_per_token_drafted;
  double ms_per_token_plain;      /**< the same without a draft */
  /** drafted_at and accepted_at of each draft's likeliest path, which is all of a chain: what otr_plan_forecast_draft expects of */
  uint64_t chain_drafted_at[OTR_MOST_DRAFT_TOKENS];
  uint64_t chain_accepted_at[OTR_MOST_DRAFT_TOKENS];
} otr_generate_result;

/** How otr_session_follow_load chooses. */
typedef struct otr_follow_load_options {
  uint32_t struct_size;
  uint32_t reserved;
  double max_slowdown; /**< of decode steps, on average, beside the same steps without branches: 0.01 to 10; default 0.05 */
} otr_follow_load_options;

/** What decode steps used of the branches while a session followed the load. */
typedef struct otr_branch_use {
  uint32_t struct_size; /**< set by the caller: sizeof(otr_branch_use) */
  int32_t follows_load; /**< 0: the share is fixed, or the model has no branches; the rest is 0 then */
  uint64_t steps;       /**< decode steps, those without branches to compare with included */
  double mean_share;    /**< of these */
  double slowdown;      /**< their time over what they had taken without branches, less 1, as measured; 0 while too few were */
} otr_branch_use;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_session_options_init(otr_session_options* options, uint32_t struct_size);

/** Takes a KV cache from the engine's plan. Errors: OTR_BUDGET when the plan's batch x context is taken by other sessions;
 * OTR_INVALID_ARGUMENT.
 * Since 0.1, stable. */
OTR_C_API otr_status otr_session_open(const otr_engine* engine, const otr_session_options* options, otr_session** session,
                                      otr_error* error);

/** Frees the session and gives its KV cache back. Since 0.1, stable. */
OTR_C_API void otr_session_close(otr_session** session);

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_prefill_options_init(otr_prefill_options* options, uint32_t struct_size);

/** Appends tokens and computes them, in chunks of the plan's step size; afterwards the logits speak of what follows the last one.
 * Errors: OTR_INVALID_ARGUMENT (none, an id outside the vocabulary, more than the context still holds: nothing is appended); OTR_CANCELLED,
 * OTR_IO: whole chunks done before it stay, otr_session_get_position tells. Since 0.1, stable. */
OTR_C_API otr_status otr_session_prefill(otr_session* session, const int32_t* tokens, size_t count, const otr_prefill_options* options,
                                         otr_error* error);

/** otr_session_prefill of one token; allocates nothing. Since 0.1, stable. */
OTR_C_API otr_status otr_session_step(otr_session* session, int32_t token, otr_error* error);

/** otr_session_step of `count` sessions of one engine, in one pass over the weights, or in as many as the plan's logit_rows ask for:
 * tokens[i] is appended to sessions[i]. `cancel` may be NULL. Errors: those of otr_session_step; OTR_INVALID_ARGUMENT for no session, one
 * that is given twice, and sessions of different engines branch shares, or ways to follow the load: nothing has changed then. Where all
 * follow it, the first session's measurements count for all. After one of a pass, sessions whose pass was done keep their token. Since 0.1,
 * stable. */
OTR_C_API otr_status otr_session_step_together(otr_session* const* sessions, const int32_t* tokens, size_t count, const otr_cancel* cancel,
                                               otr_error* error);

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_evaluate_options_init(otr_evaluate_options* options, uint32_t struct_size);

/** Like otr_session_prefill, but on_logits is called for each token in order. Plans made with more logit_rows do it faster.
 * Errors: those of otr_session_prefill. Since 0.1, stable. */
OTR_C_API otr_status otr_session_evaluate(otr_session* session, const int32_t* tokens, size_t count, const otr_evaluate_options* options,
                                          otr_error* error);

/** The logits [vocabulary] of what follows the last token. They belong to the session and are valid until the next call that changes it.
 * Errors: OTR_INVALID_ARGUMENT before the first token and after otr_session_truncate; *logits is then NULL. Since 0.1, stable. */
OTR_C_API otr_status otr_session_get_logits(const otr_session* session, const float** logits, size_t* count, otr_error* error);

/** Draws the next token from the session's logits and tokens; it is not appended. Errors: those of otr_session_get_logits and
 * otr_sampler_sample. Since 0.1, stable. */
OTR_C_API otr_status otr_session_sample(const otr_session* session, otr_sampler* sampler, int32_t* token, otr_error* error);

/** All tokens so far. Since 0.1, stable. */
OTR_C_API otr_status otr_session_get_tokens(const otr_session* session, int32_t* tokens, size_t capacity, size_t* count, otr_error* error);

/** Of a compressed model's branches: 1 for all of each (as a session opens), 0 for the bare weights, between for the components that matter
 * most (rounded to 32 of them). Holds for tokens that are computed from now on; nothing is loaded anew. A model without branches takes any
 * share. Ends otr_session_follow_load.
 * Errors: OTR_INVALID_ARGUMENT for none from 0 to 1. Since 0.1, stable. */
OTR_C_API otr_status otr_session_set_branch_share(otr_session* session, float share, otr_error* error);

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_follow_load_options_init(otr_follow_load_options* options, uint32_t struct_size);

/** From now on chooses the share for each decode step by what the steps before it took: the largest with which steps take no more than
 * max_slowdown longer than without branches, until otr_session_set_branch_share. Tokens and bits then depend on time: another run may say
 * something else. Begins with the share there is, and anew at each call. A decode step is one of otr_session_step,
 * otr_session_step_together and of what otr_session_generate writes; to compare with, one uses no branches after every 32nd, in the
 * beginning after every second. Shares are eighths. Other steps take the share that is settled on. Of drafts such a session has
 * OTR_DRAFT_NONE, and _AUTO as the same; others are OTR_UNSUPPORTED. A model without branches goes on as it is. `options` may be NULL.
 * Errors: OTR_INVALID_ARGUMENT. Since 0.1, stable. */
OTR_C_API otr_status otr_session_follow_load(otr_session* session, const otr_follow_load_options* options, otr_error* error);

/** Fills *use with what was used since otr_session_follow_load. Since 0.1, stable. */
OTR_C_API otr_status otr_session_get_branch_use(const otr_session* session, otr_branch_use* use, otr_error* error);

/** How many tokens the session holds, and the most it can hold; either pointer may be NULL. Since 0.1, stable. */
OTR_C_API otr_status otr_session_get_position(const otr_session* session, uint64_t* position_tokens, uint64_t* context_tokens,
                                              otr_error* error);

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_generate_options_init(otr_generate_options* options, uint32_t struct_size);

/** Opens what otr_session_generate with this draft needs, which otherwise its first call does: a draft model, which the session keeps until
 * another is asked for. Of the options only those of the draft and cancel are looked at.
 * Errors: OTR_INVALID_ARGUMENT when the draft has another vocabulary (the first token that differs is named), the plan has no room for
 * drafts, or OTR_DRAFT_SELF is asked for with the branches off; OTR_UNSUPPORTED for OTR_DRAFT_SELF of a model without branches or
 * stand-ins, and for a tree where stand-ins draft; OTR_BUDGET when the plan's draft_bytes do not hold the draft; those of
 * otr_model_open and otr_engine_open. Since 0.1, stable. */
OTR_C_API otr_status otr_session_prepare_draft(otr_session* session, const otr_generate_options* options, otr_error* error);

/** Prefills the prompt, then samples and steps until something stops it. The session then holds the prompt and the generated tokens.
 * `result` may be NULL. Being stopped by a callback or the cancel flag is a result, not an error (the tokens so far are valid, of a prompt
 * too the part that was computed); so is a context that fills up. Errors: those of otr_session_prefill and otr_sampler_create. Since 0.1,
 * stable. */
OTR_C_API otr_status otr_session_generate(otr_session* session, const int32_t* prompt, size_t prompt_count,
                                          const otr_generate_options* options, otr_generate_result* result, otr_error* error);

/** The tokens of the session's last successful otr_session_generate; none before it. Since 0.1, stable. */
OTR_C_API otr_status otr_session_generated_tokens(const otr_session* session, int32_t* tokens, size_t capacity, size_t* count,
                                                  otr_error* error);

/** The text of the session's last successful otr_session_generate. Since 0.1, stable. */
OTR_C_API otr_status otr_session_generated_text(const otr_session* session, char* text, size_t capacity, size_t* bytes, otr_error* error);

/** The last otr_session_generate as an HTML page that runs no script and needs no other file: rates beside what the plan expected, memory,
 * how long each lane worked where the engine keeps a trace (otr_engine_options.trace_events), what drafts took and what was accepted of
 * them by its depth, and the plan. Waits for a running step of the engine. Since 0.1, stable. */
OTR_C_API otr_status otr_session_generated_to_html(const otr_session* session, char* html, size_t capacity, size_t* bytes,
                                                   otr_error* error);

/** Forgets every token from `position_tokens` on. Errors: OTR_INVALID_ARGUMENT beyond the end. Since 0.1, stable. */
OTR_C_API otr_status otr_session_truncate(otr_session* session, uint64_t position_tokens, otr_error* error);

/** A second session with the same state, to be closed like any other. Errors: those of otr_session_open. Since 0.1, stable. */
OTR_C_API otr_status otr_session_fork(const otr_session* session, otr_session** fork, otr_error* error);

/** The session's state as bytes: tokens and KV entries, for the same model file and numerics only. Asking for the size costs as much as
 * writing it. Since 0.1, stable. */
OTR_C_API otr_status otr_session_save(const otr_session* session, void* state, size_t capacity, size_t* bytes, otr_error* error);

/** Puts a saved state in place of the session's own. Errors: OTR_CORRUPT_FILE; OTR_INVALID_ARGUMENT for another model's state or more
 * tokens than the context holds. Since 0.1, stable. */
OTR_C_API otr_status otr_session_restore(otr_session* session, const void* state, size_t bytes, otr_error* error);

/** otr_session_save to a file, which appears complete or not at all. Errors: OTR_IO. Since 0.1, stable. */
OTR_C_API otr_status otr_session_save_file(const otr_session* session, const char* path, otr_error* error);

/** otr_session_restore from a file. Errors: OTR_NOT_FOUND, OTR_IO and those of otr_session_restore. Since 0.1, stable. */
OTR_C_API otr_status otr_session_restore_file(otr_session* session, const char* path, otr_error* error);

/* ---- Batches ---- */

/** The texts that otr_batch_generate made. Immutable: any number of threads may use it at once. */
typedef struct otr_batch otr_batch;

/** How to generate many texts. */
typedef struct otr_batch_options {
  uint32_t struct_size;
  uint32_t sequences;       /**< most texts at once; 0 (default): the plan's batch */
  uint32_t context_tokens;  /**< of each; 0 (default): the plan's */
  float branch_share;       /**< as otr_session_set_branch_share, of all; -1 (default): as planned */
  const otr_cancel* cancel; /**< ends all texts, each with what it has; NULL (default): nothing does */
  /** As otr_session_follow_load, one share for a step's texts, which begins with branch_share; NULL (default): it is fixed */
  const otr_follow_load_options* follow_load;
  /** That alternate where a model drafts: while a pass verifies one's drafts, the other's are made. 1: all texts go together; 2; 0
   * (default): two as long as that is measured to be faster */
  uint32_t groups;
  uint32_t reserved;
} otr_batch_options;

/** What a batch did. */
typedef struct otr_batch_report {
  uint32_t struct_size;      /**< set by the caller: sizeof(otr_batch_report) */
  uint32_t most_at_once;     /**< texts in one step */
  uint64_t texts;            /**< how many otr_batch_get_result knows */
  uint64_t steps;            /**< passes over the weights */
  uint64_t step_tokens;      /**< that these computed: prompts, texts and drafts */
  uint64_t prompt_tokens;    /**< of the texts that were begun */
  uint64_t generated_tokens;
  double total_ms;           /**< from the first step to the last text */
  double total_tokens_per_s; /**< generated_tokens over it */
  uint64_t following_steps;  /**< steps without prompts whose share of branches followed the load; 0: it was fixed */
  double mean_branch_share;  /**< of these */
  double branch_slowdown;    /**< as otr_branch_use.slowdown, of these */
  uint64_t alternated_steps; /**< steps beside which a model drafted for the other group's texts */
} otr_batch_report;

/** Fills the first `struct_size` bytes of *options with the defaults. NULL does nothing. Since 0.1, stable. */
OTR_C_API void otr_batch_options_init(otr_batch_options* options, uint32_t struct_size);

/** Generates a text for each of `count` prompts, up to `sequences` of them at once, with one pass over the weights for a token of each: the
 * next prompt takes the place of a text that is done. Every text, its tokens and its callbacks are those that otr_session_generate gives it
 * alone, with the same seed. prompts[i] has prompt_counts[i] tokens; options[i] is that text's, NULL for the defaults, as is a NULL
 * `options`. Its cancel flag ends that text alone, between steps; of drafts there are OTR_DRAFT_NONE, _NGRAM, _AUTO and _MODEL, one model
 * for all texts, in the plan's draft_bytes (otr_model_draft_batch_bytes); while the load is followed _NONE, and _AUTO as the same, and
 * texts depend on time. The plan's batch and draft_tokens say what a step has room for. Sessions are taken from the plan for the length of
 * the call. What is wrong with one text is the error of its otr_batch_get_result and does not concern the others; being cancelled is a
 * result.
 * Errors: those of otr_session_open; OTR_INVALID_ARGUMENT for more sequences than the plan's batch. Since 0.1, stable. */
OTR_C_API otr_status otr_batch_generate(const otr_engine* engine, const int32_t* const* prompts, const size_t* prompt_counts, size_t count,
                                        const otr_generate_options* const* options, const otr_batch_options* batch_options,
                                        otr_batch** batch, otr_error* error);

/** Fills *report. Since 0.1, stable. */
OTR_C_API otr_status otr_batch_get_report(const otr_batch* batch, otr_batch_report* report, otr_error* error);

/** Fills *result with what came of prompt `index`. Errors: those of otr_session_generate for that text, a step's for every text that was in
 * it, and OTR_UNSUPPORTED for a draft that a batch does not have. Since 0.1, stable. */
OTR_C_API otr_status otr_batch_get_result(const otr_batch* batch, size_t index, otr_generate_result* result, otr_error* error);

/** The tokens of text `index`. Errors: those of otr_batch_get_result. Since 0.1, stable. */
OTR_C_API otr_status otr_batch_get_tokens(const otr_batch* batch, size_t index, int32_t* tokens, size_t capacity, size_t* count,
                                          otr_error* error);

/** The text itself. Errors: those of otr_batch_get_result. Since 0.1, stable. */
OTR_C_API otr_status otr_batch_get_text(const otr_batch* batch, size_t index, char* text, size_t capacity, size_t* bytes, otr_error* error);

/** Frees the batch. Since 0.1, stable. */
OTR_C_API void otr_batch_close(otr_batch** batch);

#ifdef __cplusplus
}
#endif

#endif /* OUTRIGGER_H_ */
