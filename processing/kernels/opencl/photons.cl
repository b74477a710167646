/* Raw words to photons, and into the image. Macros, set by the host:
 *   OUT_FLOAT, OUT_INT16 or OUT_INT32: type of the result
 *   MAPS_16: maps of 16 bits instead of floats
 *   ROWS: raw rows of a module; FIRST_ROW: its first one; GAP: between chips
 * Arithmetic in the order of processing/kernels/jungfrau.py, so that both give the same bits. */

#define CHIP 256
#define COLS 1024
#define SATURATED_WORD 0xC000
#define LOST_WORD 0xFFFF
#define HUGE_OFFSET 1e29f

#if defined(OUT_FLOAT)
typedef float out_t;
typedef float16 out16_t;
#elif defined(OUT_INT16)
typedef short out_t;
typedef short16 out16_t;
#else
typedef int out_t;
typedef int16 out16_t;
#endif

#ifdef MAPS_16
typedef ushort map_t;
#else
typedef float map_t;
#endif

out_t rounded(float value)
{
#if defined(OUT_FLOAT)
    return value;
#elif defined(OUT_INT16)
    return (short)rint(clamp(value, -32768.0f, 32767.0f));
#else
    return (int)rint(clamp(value, -2147483648.0f, 2147483520.0f));
#endif
}

out16_t rounded16(float16 value)
{
#if defined(OUT_FLOAT)
    return value;
#elif defined(OUT_INT16)
    /* Adding 1.5 * 2^23 leaves the nearest integer in the low bits: no call per lane. */
    value = clamp(value, -32768.0f, 32767.0f) + 12582912.0f;
    return convert_short16(as_int16(value) - 0x4B400000);
#else
    return convert_int16_rte(clamp(value, -2147483648.0f, 2147483520.0f));
#endif
}

/* Whether a pixel has no value in stage G0: it is masked. */
int hidden(int pixel, __global const map_t *offset, __global const map_t *factor)
{
#ifdef MAPS_16
    return factor[pixel] == 0;
#else
    return factor[pixel] == 0 || !(offset[pixel] < HUGE_OFFSET);
#endif
}

/* Photons of any word; pixels: of a raw frame, which is what a map of one stage has. */
out_t photons(ushort word, int pixel, int pixels, __global const map_t *offset,
              __global const map_t *factor, float4 scale, out_t no_value, out_t saturated)
{
    const int code = word >> 14;
    if (word == SATURATED_WORD)
        return hidden(pixel, offset, factor) ? no_value : saturated;
    if (code == 2 || word == LOST_WORD)
        return no_value;
    const int stage = code == 3 ? 2 : code;
    const int at = pixel + stage * pixels;
    const int adc = word & 0x3FFF;
#ifdef MAPS_16
    if (factor[at] == 0)
        return no_value;
    const float unit = stage == 0 ? scale.x : stage == 1 ? scale.y : scale.z;
    return rounded((float)(4 * adc - offset[at]) * ((float)factor[at] * unit));
#else
    return rounded(((float)adc - offset[at]) * factor[at]);
#endif
}

/* Index in the image of a pixel; places: first, row step, column step of each module. */
int place_of(int row, int col, __global const int *places)
{
    const int module = row / ROWS;
    const int down = row % ROWS + FIRST_ROW;
    __global const int *place = places + 3 * module;
    return place[0] + (down + GAP * (down / CHIP)) * place[1] + (col + GAP * (col / CHIP)) * place[2];
}

/* Around the caches, where the compiler and the place allow it: nobody reads the result soon, and
 * a line that is not there need not be read before it is written. */
void store16(out16_t result, __global out_t *to)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_nontemporal_store)
    if (((size_t)to & (sizeof(out16_t) - 1)) == 0) {
        __builtin_nontemporal_store(result, (__global out16_t *)to);
        return;
    }
#endif
#endif
    vstore16(result, 0, to);
}

/* Fetch what the pixel of another stage needs: its maps are far from those of G0, and waiting for
 * them would take as long as a hundred other pixels. */
void fetch(ushort word, int pixel, int pixels, __global const map_t *offset,
           __global const map_t *factor)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_prefetch)
    const int at = pixel + (word >> 15 ? 2 : 1) * pixels;
    __builtin_prefetch((const void *)(size_t)(offset + at));
    __builtin_prefetch((const void *)(size_t)(factor + at));
#endif
#endif
}

/* Photons of 16 words as if all were in G0; the bits of the words are gathered in seen. */
out16_t straight(int at, __global const ushort *restrict raw, __global const map_t *offset,
                 __global const map_t *factor, float scale, out_t no_value, ushort16 *seen)
{
    const ushort16 words = vload16(0, raw + at);
    *seen |= words;
#ifdef MAPS_16
    const int16 steps = convert_int16(vload16(0, factor + at));
    const int16 adc = 4 * convert_int16(words) - convert_int16(vload16(0, offset + at));
    const float16 value = convert_float16(adc) * (convert_float16(steps) * scale);
#if defined(OUT_INT16)
    return select(rounded16(value), (out16_t)no_value, convert_short16(steps == 0));
#else
    return select(rounded16(value), (out16_t)no_value, steps == 0);
#endif
#else
    const float16 value =
        (convert_float16(words) - vload16(0, offset + at)) * vload16(0, factor + at);
    return rounded16(value);
#endif
}

/* For CPUs: a row of a module per item. Nearly all pixels are in G0, so a straight pass that the
 * vector units like comes first. Words of other stages are noted and converted at the end. */
__kernel void convert_rows(__global const ushort *restrict raw, __global const map_t *offset,
                           __global const map_t *factor, __global out_t *out,
                           __global const int *places, int pixels, float4 scale, out_t no_value,
                           out_t saturated)
{
    const int row = get_global_id(0);
    const int row_first = row * COLS;
    const int col_step = places[3 * (row / ROWS) + 2];
    const int row_start = place_of(row, 0, places);
    ushort switched[COLS];
    int count = 0;
    for (int start = 0; start < COLS; start += CHIP) {
        const int first = row_first + start;
        __global out_t *to = out + row_start + (start + GAP * (start / CHIP)) * col_step;
        ushort16 seen = 0;
        if (col_step == 1) {
            /* What lies before and behind whole vectors of the image is written twice. */
            const int before = (16 - ((size_t)to / sizeof(out_t)) % 16) % 16;
            if (before) {
                vstore16(straight(first, raw, offset, factor, scale.x, no_value, &seen), 0, to);
                const int last = CHIP - 16;
                vstore16(straight(first + last, raw, offset, factor, scale.x, no_value, &seen), 0,
                         to + last);
            }
            for (int n = before; n <= CHIP - 16; n += 16)
                store16(straight(first + n, raw, offset, factor, scale.x, no_value, &seen), to + n);
        } else {
            for (int n = 0; n < CHIP; n += 16) {
                out_t lanes[16];
                vstore16(straight(first + n, raw, offset, factor, scale.x, no_value, &seen), 0, lanes);
                for (int lane = 0; lane < 16; lane++)
                    to[(n + lane) * col_step] = lanes[lane];
            }
        }
        if (start + CHIP < COLS)
            for (int n = 0; n < GAP; n++)
                to[(CHIP + n) * col_step] = no_value;
        const ushort8 half8 = seen.lo | seen.hi;
        const ushort4 half4 = half8.lo | half8.hi;
        const ushort2 half2 = half4.lo | half4.hi;
        if (!((half2.x | half2.y) & 0xC000))
            continue;
        /* Few of them switched: four are passed over at a time. */
        for (int n = start; n < start + CHIP; n += 4) {
            if (!(as_ulong(vload4(0, raw + row_first + n)) & 0xC000C000C000C000UL))
                continue;
            for (int col = n; col < n + 4; col++) {
                const ushort word = raw[row_first + col];
                if (word & 0xC000) {
                    fetch(word, row_first + col, pixels, offset, factor);
                    switched[count++] = col;
                }
            }
        }
    }
    for (int n = 0; n < count; n++) {
        const int col = switched[n], at = row_first + col;
        out[row_start + (col + GAP * (col / CHIP)) * col_step] =
            photons(raw[at], at, pixels, offset, factor, scale, no_value, saturated);
    }
}

/* For GPUs: a pixel per item, so that neighbours read neighbours. */
__kernel void convert_pixels(__global const ushort *restrict raw, __global const map_t *offset,
                             __global const map_t *factor, __global out_t *out,
                             __global const int *places, int pixels, float4 scale, out_t no_value,
                             out_t saturated)
{
    const int pixel = get_global_id(0);
    out[place_of(pixel / COLS, pixel % COLS, places)] =
        photons(raw[pixel], pixel, pixels, offset, factor, scale, no_value, saturated);
}

/* What no raw pixel reaches; runs: first index and length. */
__kernel void fill_empty(__global out_t *out, __global const int2 *runs, int count, out_t no_value)
{
    const int each = (count + get_global_size(0) - 1) / get_global_size(0);
    const int begin = get_global_id(0) * each;
    for (int n = begin; n < min(begin + each, count); n++)
        for (int pixel = runs[n].x; pixel < runs[n].x + runs[n].y; pixel++)
            out[pixel] = no_value;
}

/* Double-size pixels give an equal part to each gap pixel they cover. */
__kernel void share(__global out_t *out, __global const int4 *shares, int count, out_t no_value,
                    out_t saturated)
{
    const int each = (count + get_global_size(0) - 1) / get_global_size(0);
    const int begin = get_global_id(0) * each;
    for (int n = begin; n < min(begin + each, count); n++) {
        const int4 at = shares[n];
        const int parts = at.z < 0 ? 2 : 4;
        const out_t value = out[at.x];
#if defined(OUT_FLOAT)
        const out_t part = value * (1.0f / (float)parts);
        const out_t rest = part;
#else
        const int marked = value == no_value || value == saturated;
        const out_t part = marked ? value : (out_t)(value >> (parts / 2));
        const out_t rest = marked ? value : (out_t)(value - part * (parts - 1));
#endif
        out[at.y] = part;
        if (at.z >= 0) {
            out[at.z] = part;
            out[at.w] = part;
        }
        out[at.x] = rest;
    }
}
