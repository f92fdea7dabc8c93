/* What the machine allows, measured: the limits that benchmarks hold the engine against. */
#ifndef NANO_PROBE_H
#define NANO_PROBE_H

#include "nano_engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Read `bytes` of memory (huge pages if there are any) by `threads` threads, each its own part, prefetching `ahead`
 * bytes: fills bytes_per_second [repeats]. NANO_NO_MEMORY if there are not so many bytes. */
NANO_API int nano_probe_read(int64_t threads, int64_t bytes, int64_t ahead, int64_t repeats, double *bytes_per_second);

/* Multiply-accumulates of bytes in registers, nothing else: fills macs_per_second [repeats].
 * NANO_INVALID where no such instruction is known for this processor. */
NANO_API int nano_probe_int8(int64_t threads, int64_t repeats, double *macs_per_second);

#ifdef __cplusplus
}
#endif
#endif
