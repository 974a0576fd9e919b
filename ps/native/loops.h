/* The arithmetic over vectors of type T; included once for float and once for double, with N(x) the name of x then.

   Each loop does to an element what ps.optim's NumPy lines do to it, operation for operation, so that the bits are the
   same: a new one is written from those lines, and tests/native/ compares them. */

#define CLIP(x, low, high) ((x) < (low) ? (low) : (x) > (high) ? (high) : (x)) /* as np.clip: a NaN stays one */

/* Gradients */

CLONED static void N(multiply)(const T *x, T factor, T *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = x[i] * factor;
}

CLONED static void N(add)(const T *x, const T *y, T *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = x[i] + y[i];
}

CLONED static void N(add_multiple)(const T *x, const T *y, T factor, T *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = x[i] + y[i] * factor;
}

CLONED static void N(clip)(const T *x, T low, T high, T *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = CLIP(x[i], low, high);
}

/* The largest magnitude, as its bits: those without their sign are in the order of the numbers, and those of Inf and NaN
   after all others. */
static INLINED B N(magnitude)(const T *x, size_t n) {
    B most = 0;
    for (size_t i = 0; i < n; ++i) {
        B bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= ~((B)1 << (8 * sizeof(B) - 1));
        most = bits > most ? bits : most;
    }
    return most;
}

/* Whether all elements are within the limit. */
CLONED static int N(within)(const T *x, T limit, size_t n) {
    B bound;
    memcpy(&bound, &limit, sizeof bound);
    return N(magnitude)(x, n) <= bound;
}

/* The sum of squares in double precision, as ps.optim.clip has it: element i goes to lane i % LANES, lanes are then added
   in halves. */
CLONED static double N(squares)(const T *x, size_t n) {
    double lanes[LANES] = {0};
    for (size_t at = 0; at < n; at += LANES) {
        const T *row = x + at;
        size_t count = n - at < LANES ? n - at : LANES;
        EACH for (size_t i = 0; i < count; ++i) lanes[i] = lanes[i] + (double)row[i] * (double)row[i];
    }
    return add_lanes(lanes);
}

/* int8: rows of x as a scale and codes, rounded by chance; 0 where something is NaN or infinite. See ps.compress.int8. */
CLONED static int N(quantize)(const T *x, const uint16_t *noise, T *scales, int8_t *codes, size_t n, T spread, T least) {
    for (size_t at = 0; at < n; at += ROW) {
        size_t count = n - at < ROW ? n - at : ROW;
        const T *row = x + at;
        const uint16_t *up = noise + at;
        int8_t *code = codes + at;
        B most = N(magnitude)(row, count);
        T largest;
        memcpy(&largest, &most, sizeof largest);
        if (!(largest <= MOST)) return 0;
        T scale = largest * spread;
        scale = scale < least ? least : scale;
        T inverse = (T)65536 / scale;
        scales[at / ROW] = scale;
        EACH for (size_t i = 0; i < count; ++i) code[i] = (int8_t)(((int32_t)RINT(row[i] * inverse) + up[i]) >> 16);
    }
    return 1;
}

CLONED static void N(dequantize)(const T *scales, const int8_t *codes, T *out, size_t first, size_t n) {
    for (size_t at = first; at < first + n;) {
        size_t end = (at / ROW + 1) * ROW, count = (end < first + n ? end : first + n) - at;
        T scale = scales[at / ROW], *to = out + (at - first);
        const int8_t *code = codes + at;
        EACH for (size_t i = 0; i < count; ++i) to[i] = (T)code[i] * scale;
        at += count;
    }
}

/* onebit: rows of x as two levels and bits, the first in a byte's highest. See ps.compress.onebit. */
CLONED static void N(to_bits)(const T *x, T *middles, T *halves, uint8_t *bits, size_t n) {
    for (size_t at = 0; at < n; at += LEVELS_ROW) {
        size_t count = n - at < LEVELS_ROW ? n - at : LEVELS_ROW, ups = 0;
        double totals[LANES] = {0}, absolutes[LANES] = {0};
        uint8_t up[LEVELS_ROW + 8] = {0};
        for (size_t from = 0; from < count; from += LANES) {
            const T *row = x + at + from;
            size_t width = count - from < LANES ? count - from : LANES;
            EACH for (size_t i = 0; i < width; ++i) {
                totals[i] = totals[i] + (double)row[i];
                absolutes[i] = absolutes[i] + fabs((double)row[i]);
            }
            EACH for (size_t i = 0; i < width; ++i) up[from + i] = row[i] >= 0;
        }
        for (size_t i = 0; i < count; i += 8) bits[(at + i) / 8] = pack(up + i);
        for (size_t i = 0; i < count; ++i) ups += up[i];
        double total = add_lanes(totals), absolute = add_lanes(absolutes);
        double downs = (double)count - (double)ups;
        double high = (absolute + total) / (ups > 1 ? 2 * (double)ups : 2);
        double low = (total - absolute) / (downs > 1 ? 2 * downs : 2), half = high / 2 - low / 2;
        middles[at / LEVELS_ROW] = (T)(high / 2 + low / 2);
        halves[at / LEVELS_ROW] = (T)(half < 0 ? 0 : half);
    }
}

CLONED static void N(from_bits)(const T *middles, const T *halves, const uint8_t *bits, T *out, size_t first, size_t n) {
    for (size_t at = first; at < first + n;) {
        size_t end = (at / LEVELS_ROW + 1) * LEVELS_ROW, stop = end < first + n ? end : first + n;
        T middle = middles[at / LEVELS_ROW], half = halves[at / LEVELS_ROW];
        T low = middle - half, high = middle + half;
        for (; at < stop && at % 8; ++at) out[at - first] = bits[at / 8] >> (7 - at % 8) & 1 ? high : low;
        T *to = out + (at - first);
        const uint8_t *byte = bits + at / 8;
        size_t bytes = (stop - at) / 8;
        for (size_t k = 0; k < bytes; ++k) {
            uint32_t eight = byte[k];
            EACH for (uint32_t i = 0; i < 8; ++i) to[8 * k + i] = eight & (128u >> i) ? high : low;
        }
        for (at += 8 * bytes; at < stop; ++at) out[at - first] = bits[at / 8] >> (7 - at % 8) & 1 ? high : low;
    }
}

/* Optimizers: w and state s are updated with the gradient g; c are the numbers that Optimizer.constants returns */

typedef void N(step)(T *w, const T *g, T *const *s, const double *c, size_t n);

CLONED static void N(sgd)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T lr = (T)c[0];
    (void)s;
    EACH for (size_t i = 0; i < n; ++i) w[i] = w[i] - g[i] * lr;
}

CLONED static void N(momentum)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *m = s[0], lr = (T)c[0], momentum = (T)c[1];
    EACH for (size_t i = 0; i < n; ++i) {
        m[i] = m[i] * momentum + g[i];
        w[i] = w[i] - m[i] * lr;
    }
}

CLONED static void N(nesterov)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *p = s[0], lr = (T)c[0], momentum = (T)c[1];
    EACH for (size_t i = 0; i < n; ++i) {
        p[i] = (p[i] + g[i]) * momentum;
        w[i] = w[i] - (p[i] + g[i]) * lr;
    }
}

CLONED static void N(adagrad)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *v = s[0], lr = (T)c[0], eps = (T)c[1];
    EACH for (size_t i = 0; i < n; ++i) {
        v[i] = v[i] + g[i] * g[i];
        w[i] = w[i] - g[i] / (ROOT(v[i]) + eps) * lr;
    }
}

CLONED static void N(rmsprop)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *v = s[0], alpha = (T)c[0], eps = (T)c[1], step = (T)c[2];
    EACH for (size_t i = 0; i < n; ++i) {
        v[i] = v[i] * alpha + g[i] * g[i];
        w[i] = w[i] - g[i] / (ROOT(v[i]) + eps) * step;
    }
}

CLONED static void N(adam)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *m = s[0], *v = s[1], beta1 = (T)c[0], beta2 = (T)c[1], eps = (T)c[2], step = (T)c[3];
    EACH for (size_t i = 0; i < n; ++i) {
        m[i] = m[i] * beta1 + g[i];
        v[i] = v[i] * beta2 + g[i] * g[i];
        w[i] = w[i] - m[i] / (ROOT(v[i]) + eps) * step;
    }
}

CLONED static void N(adamw)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *m = s[0], *v = s[1], beta1 = (T)c[0], beta2 = (T)c[1], eps = (T)c[2], step = (T)c[3], pull = (T)c[4];
    if (c[4] == 0) {
        N(adam)(w, g, s, c, n);
        return;
    }
    EACH for (size_t i = 0; i < n; ++i) {
        m[i] = m[i] * beta1 + g[i];
        v[i] = v[i] * beta2 + g[i] * g[i];
        w[i] = w[i] - (m[i] / (ROOT(v[i]) + eps) * step + w[i] * pull);
    }
}

CLONED static void N(lion)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *m = s[0], beta2 = (T)c[1], share = (T)c[2], pull = (T)c[3];
    T tiny = (T)TINY, lr = (T)(c[0] / TINY);
    int pulls = c[3] != 0;
    EACH for (size_t i = 0; i < n; ++i) {
        T mixed = m[i] * share + g[i];
        T step = CLIP(mixed, -tiny, tiny) * lr;
        w[i] = w[i] - (pulls ? step + w[i] * pull : step);
        m[i] = m[i] * beta2 + g[i];
    }
}

CLONED static void N(ftrl)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *z = s[0], *squares = s[1], lr = (T)c[0], l1 = (T)c[1], least = (T)c[2];
    EACH for (size_t i = 0; i < n; ++i) {
        T before = ROOT(squares[i]);
        squares[i] = squares[i] + g[i] * g[i];
        T after = ROOT(squares[i]);
        z[i] = z[i] + (before - after) * w[i];
        z[i] = z[i] + g[i] * lr;
        w[i] = (CLIP(z[i], -l1, l1) - z[i]) / (after + least);
    }
}

CLONED static void N(fedadagrad)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *m = s[0], *v = s[1], beta1 = (T)c[0], tau = (T)c[1], step = (T)c[2];
    EACH for (size_t i = 0; i < n; ++i) {
        m[i] = m[i] * beta1 + g[i];
        v[i] = v[i] + g[i] * g[i];
        w[i] = w[i] - m[i] / (ROOT(v[i]) + tau) * step;
    }
}

CLONED static void N(fedyogi)(T *w, const T *g, T *const *s, const double *c, size_t n) {
    T *m = s[0], *v = s[1], beta1 = (T)c[0], tau = (T)c[2], step = (T)c[3];
    T tiny = (T)TINY, share = (T)(c[1] / TINY);
    EACH for (size_t i = 0; i < n; ++i) {
        m[i] = m[i] * beta1 + g[i];
        T square = g[i] * g[i], apart = v[i] - square;
        v[i] = v[i] - square * (CLIP(apart, -tiny, tiny) * share);
        w[i] = w[i] - m[i] / (ROOT(v[i]) + tau) * step;
    }
}

/* The K-way weighted sum of a gradient's parts, scaled, clipped and with L2 decay */

/* Return n elements of a part from ``at`` on: where they lie, or in ``room``. */
static const T *N(read)(const Part *part, size_t at, size_t n, T *room) {
    const char *place = (const char *)part->data + at * part->itemsize;
#if HALVES
    if (part->itemsize == 2) {
        uint16_t moved[TILE];
        const void *half = (uintptr_t)place % 2 ? memcpy(moved, place, 2 * n) : place;
        widen(half, part->kind, room, n);
        return room;
    }
#endif
    if ((uintptr_t)place % sizeof(T)) {
        memcpy(room, place, n * sizeof(T));
        return room;
    }
    return (const T *)place;
}

/* Return n elements of the sum from ``at`` on, scaled: in a part's own memory, or in ``room``. */
static const T *N(sum)(const Gradient *gradient, size_t at, size_t n, T *room, T *spare, int *fine) {
    const T *total = NULL;
    for (size_t k = 0; k < gradient->count; ++k) {
        const Part *part = &gradient->parts[k];
        const T *term = N(read)(part, at, n, total == NULL ? room : spare);
        if (total == NULL && part->share != 1) {
            N(multiply)(term, (T)part->share, room, n);
            total = room;
        } else if (total == NULL) {
            total = term;
        } else {
            if (part->share != 1) N(add_multiple)(total, term, (T)part->share, room, n);
            else N(add)(total, term, room, n);
            total = room;
        }
    }
    if (gradient->limit > 0) *fine &= N(within)(total, (T)gradient->limit, n);
    if (gradient->scale != 1) {
        N(multiply)(total, (T)gradient->scale, room, n);
        total = room;
    }
    return total;
}

/* Update elements lo to hi of the weights; return whether the sum of the gradient's parts was within its limit. */
static int N(update)(const Update *u, size_t lo, size_t hi) {
    T room[TILE], spare[TILE];
    const Gradient *gradient = &u->gradient;
    int fine = 1;
    for (size_t at = lo; at < hi; at += TILE) {
        size_t n = hi - at < TILE ? hi - at : TILE;
        T *w = (T *)u->weights + at, *state[MOST_SLOTS];
        for (int k = 0; k < u->optimizer->slots; ++k) state[k] = (T *)u->state[k] + at;
        const T *g = N(sum)(gradient, at, n, room, spare, &fine);
        if (u->clips) {
            N(clip)(g, (T)-u->clip, (T)u->clip, room, n);
            g = room;
        }
        if (u->l2 != 0) {
            N(add_multiple)(g, w, (T)u->l2, room, n);
            g = room;
        }
        u->optimizer->N(step)(w, g, state, u->constants, n);
#if HALVES
        if (u->half != NULL) narrow(w, u->half_kind, u->half + at, n);
#endif
    }
    return fine;
}

/* Write elements lo to hi of the sum of a gradient's parts; return whether it was within its limit before scaling. */
static int N(combine)(const Gradient *gradient, T *out, size_t lo, size_t hi) {
    T room[TILE], spare[TILE];
    int fine = 1;
    for (size_t at = lo; at < hi; at += TILE) {
        size_t n = hi - at < TILE ? hi - at : TILE;
        const T *total = N(sum)(gradient, at, n, room, spare, &fine);
        memcpy(out + at, total, n * sizeof(T));
    }
    return fine;
}
