/* onebit, the codec of ps.compress, as Python sees it; the arithmetic is in loops.h. */
#ifndef PS_ONEBIT_H
#define PS_ONEBIT_H

#include "arguments.h"

#define BITS "B" /* eight elements each */

/* Take the levels and the bits of ``size`` elements; NULL, with an exception or with none, where they are none. */
static Py_buffer *hold_levels(Held *held, PyObject *of_middles, PyObject *of_halves, PyObject *of_bits, int writable) {
    Py_buffer *middles = hold(held, of_middles, writable);
    Py_buffer *halves = middles == NULL ? NULL : hold(held, of_halves, writable);
    Py_buffer *bits = halves == NULL ? NULL : hold_among(held, of_bits, writable, BITS);
    if (bits == NULL || middles->itemsize == 2 || kind_of(halves) != kind_of(middles) || !is_aligned(middles) ||
        !is_aligned(halves) || !same_size(halves, middles))
        return NULL;
    return middles;
}

static int fit_levels(const Py_buffer *middles, const Py_buffer *bits, Py_ssize_t size) {
    Py_ssize_t rows = size / LEVELS_ROW + (size % LEVELS_ROW != 0), bytes = size / 8 + (size % 8 != 0);
    if (middles->shape[0] == rows && bits->shape[0] == bytes) return 1;
    PyErr_Format(PyExc_ValueError, "%zd levels and %zd bytes of an array of %zd elements", middles->shape[0], bits->shape[0],
                 size);
    return 0;
}

static PyObject *to_bits(PyObject *self, PyObject *arguments) {
    PyObject *values, *to_middles, *to_halves, *to_bytes;
    Py_buffer views[4];
    Held held = {views, 0, 4};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOOO:to_bits", &values, &to_middles, &to_halves, &to_bytes)) return NULL;
    Py_buffer *middles = hold_levels(&held, to_middles, to_halves, to_bytes, 1);
    Py_buffer *x = middles == NULL ? NULL : hold(&held, values, 0);
    if (x != NULL && kind_of(x) == kind_of(middles) && is_aligned(x) && fit_levels(middles, &views[2], x->shape[0]) &&
        !any_collide(&held, 0, 3) && views[0].buf != views[1].buf && views[0].buf != x->buf && views[1].buf != x->buf) {
        size_t n = (size_t)x->shape[0];
        if (kind_of(x) == SINGLE) LET_GO(n, to_bits_f(x->buf, views[0].buf, views[1].buf, views[2].buf, n));
        else LET_GO(n, to_bits_d(x->buf, views[0].buf, views[1].buf, views[2].buf, n));
        done = 1;
    }
    return answer(&held, done);
}

static PyObject *from_bits(PyObject *self, PyObject *arguments) {
    PyObject *target, *of_middles, *of_halves, *of_bytes;
    Py_ssize_t lo;
    Py_buffer views[4];
    Held held = {views, 0, 4};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOOOn:from_bits", &target, &of_middles, &of_halves, &of_bytes, &lo)) return NULL;
    Py_buffer *out = hold(&held, target, 1);
    Py_buffer *middles = out == NULL ? NULL : hold_levels(&held, of_middles, of_halves, of_bytes, 0);
    if (middles != NULL && kind_of(middles) == kind_of(out) && is_aligned(out) && !any_collide(&held, 0, 1) &&
        out->buf != middles->buf && out->buf != views[2].buf && lo <= PY_SSIZE_T_MAX - out->shape[0] && 0 <= lo) {
        Py_ssize_t end = lo + out->shape[0];
        if (middles->shape[0] < end / LEVELS_ROW + (end % LEVELS_ROW != 0) || views[3].shape[0] < end / 8 + (end % 8 != 0)) {
            PyErr_Format(PyExc_ValueError, "elements %zd to %zd of %zd levels and %zd bytes", lo, end, middles->shape[0],
                         views[3].shape[0]);
        } else {
            size_t n = (size_t)out->shape[0], first = (size_t)lo;
            if (kind_of(out) == SINGLE)
                LET_GO(n, from_bits_f(middles->buf, views[2].buf, views[3].buf, out->buf, first, n));
            else LET_GO(n, from_bits_d(middles->buf, views[2].buf, views[3].buf, out->buf, first, n));
            done = 1;
        }
    } else if (middles != NULL && lo < 0) {
        PyErr_Format(PyExc_ValueError, "elements from %zd on", lo);
    }
    return answer(&held, done);
}

#endif
