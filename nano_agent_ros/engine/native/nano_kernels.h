/* The kernels one by one, for tests and benchmarks. `set` is as nano_options has it; sizes are not checked.
 * Every function returns 0, or -1 if there is no such set on this processor. Layouts as in kernels.h.
 */
#ifndef NANO_KERNELS_H
#define NANO_KERNELS_H

#include "nano_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x [tokens, cols] and panels of 4 or 8 bits to y [tokens, rows]; bias [rows] may be NULL. */
NANO_API int nano_kernel_linear(const char *set, const uint8_t *panels, int64_t bits, const float *bias, int64_t rows,
                                int64_t cols, const float *x, int64_t tokens, float *y);
/* Seconds that each of `repeats` passes over `count` linear layers [rows, cols] takes on `threads` threads, for `tokens`
 * tokens; every layer has random weights of its own, so many or large ones come from memory. -1 if memory is short. */
NANO_API int nano_kernel_time_linear(const char *set, int64_t bits, int64_t rows, int64_t cols, int64_t count,
                                     int64_t tokens, int64_t threads, int64_t repeats, double *seconds);
/* values [cols], scales and offsets [cols / 64] */
NANO_API int nano_kernel_quantize(const char *set, const float *x, int64_t cols, int8_t *values, float *scales,
                                  int32_t *offsets);
NANO_API int nano_kernel_rms_norm(const char *set, const float *x, const float *weight, int64_t n, float eps, float *y);
NANO_API int nano_kernel_gated_norm(const char *set, const float *y, const float *gate, const float *weight, int64_t n,
                                    int64_t group, float eps, float *out);
/* input [kernel - 1 + tokens, channels], weight [kernel, channels], output [tokens, channels] */
NANO_API int nano_kernel_conv_silu(const char *set, const float *input, const float *weight, const float *bias,
                                   int64_t kernel, int64_t channels, int64_t tokens, float *output);
/* xbc [tokens, heads * head_dim + 2 * n_groups * state_size]; dt and decay [tokens, heads];
 * state [heads, head_dim, state_size] is advanced in place; y [tokens, heads * head_dim] may be NULL. */
NANO_API int nano_kernel_scan(const char *set, const float *xbc, const float *dt, const float *decay, const float *skip,
                              int64_t tokens, int64_t heads, int64_t head_dim, int64_t state_size, int64_t n_groups,
                              float *state, float *y);
/* query and output [rows, head_dim]; keys and values [count, head_dim] in float16; row r sees keys [begins[r], ends[r]).
 * `apart`: take every segment of keys by itself and merge the sums afterwards. */
NANO_API int nano_kernel_attend(const char *set, const float *query, const int64_t *begins, const int64_t *ends,
                                int64_t rows, const uint16_t *keys, const uint16_t *values, int64_t count,
                                int64_t head_dim, float scale, int64_t apart, float *output);
NANO_API int nano_kernel_to_half(const char *set, const float *x, int64_t n, uint16_t *out);
/* Copies nbytes as a snapshot's pieces are, and gives their hash. */
NANO_API int nano_kernel_hashed_copy(const char *set, const uint8_t *in, int64_t nbytes, uint8_t *out, uint64_t *hash);
NANO_API int nano_kernel_relu_squared(const char *set, float *x, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
