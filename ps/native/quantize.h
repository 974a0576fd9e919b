/* int8, the codec of ps.compress, as Python sees it; the arithmetic is in loops.h. */
#ifndef PS_QUANTIZE_H
#define PS_QUANTIZE_H

#include <float.h>

#include "arguments.h"

/* Whether there is one scale for each row of ``codes``. */
static int fit_rows(const Py_buffer *scales, const Py_buffer *codes) {
    if (scales->shape[0] == (codes->shape[0] + ROW - 1) / ROW) return 1;
    PyErr_Format(PyExc_ValueError, "%zd scales for %zd codes", scales->shape[0], codes->shape[0]);
    return 0;
}

/* Whether every code fits its byte: a scale is hardly less than a row's largest magnitude / 127, and has an inverse. */
static int fit_bytes(double spread, double least, double most) {
    if (spread >= 1.0 / 127.5 && spread <= 1 && least > 0 && 65536 / least <= most) return 1;
    PyErr_Format(PyExc_ValueError, "scales that are no scales of int8");
    return 0;
}

static PyObject *quantize(PyObject *self, PyObject *arguments) {
    PyObject *values, *chance, *to_scales, *to_codes;
    double spread, least;
    Py_buffer views[4];
    Held held = {views, 0, 4};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOOOdd:quantize", &values, &chance, &to_scales, &to_codes, &spread, &least))
        return NULL;
    Py_buffer *scales = hold(&held, to_scales, 1);
    Py_buffer *codes = scales == NULL ? NULL : hold_among(&held, to_codes, 1, BYTES);
    Py_buffer *x = codes == NULL ? NULL : hold(&held, values, 0);
    Py_buffer *noise = x == NULL ? NULL : hold(&held, chance, 0);
    if (noise != NULL && kind_of(noise) == 'H' && x->itemsize != 2 && kind_of(scales) == kind_of(x) && is_aligned(x) &&
        is_aligned(noise) && is_aligned(scales) && same_size(noise, x) && same_size(codes, x) &&
        fit_rows(scales, codes) && !any_collide(&held, 0, 2) &&
        fit_bytes(spread, least, kind_of(x) == SINGLE ? FLT_MAX : DBL_MAX)) {
        size_t n = (size_t)x->shape[0];
        if (kind_of(x) == SINGLE)
            LET_GO(n, done = quantize_f(x->buf, noise->buf, scales->buf, codes->buf, n, (float)spread, (float)least));
        else LET_GO(n, done = quantize_d(x->buf, noise->buf, scales->buf, codes->buf, n, spread, least));
    }
    return answer(&held, done);
}

static PyObject *dequantize(PyObject *self, PyObject *arguments) {
    PyObject *of_rows, *bytes, *target;
    Py_ssize_t lo;
    Py_buffer views[3];
    Held held = {views, 0, 3};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOOn:dequantize", &target, &of_rows, &bytes, &lo)) return NULL;
    Py_buffer *out = hold(&held, target, 1);
    Py_buffer *scales = out == NULL ? NULL : hold(&held, of_rows, 0);
    Py_buffer *codes = scales == NULL ? NULL : hold_among(&held, bytes, 0, BYTES);
    if (codes != NULL && out->itemsize != 2 && kind_of(scales) == kind_of(out) && is_aligned(out) &&
        is_aligned(scales) && fit_rows(scales, codes) && !any_collide(&held, 0, 1) &&
        lo <= PY_SSIZE_T_MAX - out->shape[0] && in_range(lo, lo + out->shape[0], codes)) {
        size_t n = (size_t)out->shape[0], first = (size_t)lo;
        if (kind_of(out) == SINGLE) LET_GO(n, dequantize_f(scales->buf, codes->buf, out->buf, first, n));
        else LET_GO(n, dequantize_d(scales->buf, codes->buf, out->buf, first, n));
        done = 1;
    }
    return answer(&held, done);
}

#endif
