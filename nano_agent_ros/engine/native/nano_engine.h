/* C interface of the native engine: one INT4 model, many conversation states.
 *
 * Every function checks its arguments and never throws; a negative result is an error code, and
 * nano_last_error() then holds a message (per thread, valid until that thread's next call).
 *
 * Thread safety: an engine and its states may be used from any thread. Calls on one engine run one after
 * another (each uses the engine's whole thread pool). A state must not be freed while another thread uses it.
 * A state whose engine was closed can only be freed.
 */
#ifndef NANO_ENGINE_H
#define NANO_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NANO_API __attribute__((visibility("default")))
#define NANO_ABI_VERSION 3

enum {
    NANO_OK = 0,
    NANO_INVALID = -1,  /* an argument is out of range; nothing changed */
    NANO_DAMAGED = -2,  /* the weights or the snapshot do not fit the model */
    NANO_NO_MEMORY = -3,
    NANO_IO = -4,
    NANO_INTERNAL = -5
};

enum { NANO_INT4_PANELS = 0, NANO_FLOAT32 = 1, NANO_FLOAT16 = 2, NANO_INT8_PANELS = 3 };

typedef struct nano_engine nano_engine;
typedef struct nano_state nano_state;

/* Sizes of the network, as in config.json. */
typedef struct nano_config {
    int64_t vocab_size, hidden_size, intermediate_size;
    int64_t mamba_heads, mamba_head_dim, state_size, n_groups, conv_kernel;
    int64_t attention_heads, kv_heads, head_dim;
    double norm_eps, dt_min, dt_max; /* dt_min, dt_max: time_step_limit; dt_max may be infinite */
    const char *pattern;             /* one of M * - per layer */
} nano_config;

/* One tensor of the weights file. rows and cols are those of the matrix; a vector has cols 1. */
typedef struct nano_tensor {
    const char *name;
    int64_t kind, rows, cols;
    uint64_t offset, nbytes; /* in the file */
} nano_tensor;

typedef struct nano_options {
    int64_t threads;     /* 0: one per physical core, at most 8 */
    int64_t window;      /* recent tokens that attention sees */
    int64_t sinks;       /* first tokens that attention sees for ever */
    const char *kernels; /* "auto", "portable", "avx2", "avxvnni", "avx512", "neon" or "float" */
    const char *pin;     /* "none", "auto" (one processor of each core) or a list of processors like "0,2,4" */
    int64_t huge_pages;  /* 1: copy the weights into huge pages of memory instead of mapping them; 0: do not */
    uint8_t model_digest[32];
} nano_options;

NANO_API int nano_abi_version(void);
NANO_API const char *nano_last_error(void);

/* Map the weights file and bind its tensors. Returns NULL on error. */
NANO_API nano_engine *nano_engine_open(const char *weights_path, const nano_config *config,
                                       const nano_tensor *tensors, size_t tensor_count,
                                       const nano_options *options);
NANO_API void nano_engine_close(nano_engine *engine);
NANO_API const char *nano_engine_kernels(const nano_engine *engine);
NANO_API int64_t nano_engine_threads(const nano_engine *engine);

NANO_API nano_state *nano_state_new(nano_engine *engine);
NANO_API void nano_state_free(nano_state *state);

/* Advance by count tokens. logits: [vocab_size], or [count, vocab_size] if every; may be NULL. */
NANO_API int nano_state_extend(nano_state *state, const int64_t *tokens, int64_t count, float *logits, int every);
/* Keep the first count of the tokens last extended by. */
NANO_API int nano_state_commit(nano_state *state, int64_t count);
/* Tokens that the state has seen, or a negative error. */
NANO_API int64_t nano_state_length(nano_state *state);

/* Returns a state with all tokens of this one, in time that does not depend on how many; NULL on error. Neither sees what
 * is done to the other. This one's last tokens can still be taken back, the new one's cannot. */
NANO_API nano_state *nano_state_fork(nano_state *state);

/* Keep every token, then return the size of a snapshot in bytes, or a negative error. */
NANO_API int64_t nano_state_snapshot_size(nano_state *state);
NANO_API int nano_state_snapshot(nano_state *state, uint8_t *data, int64_t nbytes);
/* Returns NULL for a damaged snapshot or one of another model, kernel set or attention window. */
NANO_API nano_state *nano_state_restore(nano_engine *engine, const uint8_t *data, int64_t nbytes);

#ifdef __cplusplus
}
#endif
#endif
