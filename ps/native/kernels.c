/* ps.native._kernels: arithmetic over whole vectors that NumPy does in many passes, in one; ps.native says more.

   Here is what Python sees: arguments are taken, checked and given back, and the interpreter's lock is let go of
   meanwhile. The arithmetic is in loops.h and half.h. Every function may answer None: then nothing was done, since the
   arrays are of a kind that only NumPy knows what to do with, and the caller does it there. */

#define PY_SSIZE_T_CLEAN
#if !defined(Py_GIL_DISABLED)
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>

#include <float.h>

#include "half.h"

#define VERSION 3 /* as in __init__.py */
#define MOST_SLOTS 2
#define MOST_CONSTANTS 8
#define TINY 0x1p-100 /* ps.optim.lion */

typedef struct {
    const void *data;
    size_t itemsize;
    char kind;
    double share;
} Part;

typedef struct {
    Part *parts;
    size_t count;
    double scale, limit;
} Gradient;

typedef struct Optimizer Optimizer;

typedef struct {
    Gradient gradient;
    const Optimizer *optimizer;
    void *weights, *state[MOST_SLOTS];
    double constants[MOST_CONSTANTS], clip, l2;
    int clips;
    uint16_t *half;
    char half_kind;
} Update;

typedef void step_f(float *w, const float *g, float *const *s, const double *c, size_t n);
typedef void step_d(double *w, const double *g, double *const *s, const double *c, size_t n);

struct Optimizer {
    const char *name;
    int slots, constants;
    step_f *step_f;
    step_d *step_d;
};

#define T float
#define B uint32_t
#define N(name) name##_f
#define ROOT(x) sqrtf(x)
#define RINT(x) rintf(x)
#define MOST FLT_MAX
#define HALVES 1
#include "loops.h"
#undef T
#undef B
#undef N
#undef ROOT
#undef RINT
#undef MOST
#undef HALVES

#define T double
#define B uint64_t
#define N(name) name##_d
#define ROOT(x) sqrt(x)
#define RINT(x) rint(x)
#define MOST DBL_MAX
#define HALVES 0
#include "loops.h"

static const Optimizer optimizers[] = {
    {"adagrad", 1, 2, adagrad_f, adagrad_d},
    {"adam", 2, 4, adam_f, adam_d},
    {"adamw", 2, 5, adamw_f, adamw_d},
    {"fedadagrad", 2, 3, fedadagrad_f, fedadagrad_d},
    {"fedyogi", 2, 4, fedyogi_f, fedyogi_d},
    {"ftrl", 2, 3, ftrl_f, ftrl_d},
    {"lion", 1, 4, lion_f, lion_d},
    {"momentum", 1, 2, momentum_f, momentum_d},
    {"nesterov", 1, 2, nesterov_f, nesterov_d},
    {"rmsprop", 1, 3, rmsprop_f, rmsprop_d},
    {"sgd", 0, 1, sgd_f, sgd_d},
};

#include "quantize.h"
#include "onebit.h"

/* What Python calls */

static int hold_update(Held *held, Update *u, PyObject *weights, PyObject *state, PyObject *constants, PyObject *half,
                       PyObject *parts, PyObject *shares, Py_ssize_t lo, Py_ssize_t hi, char *kind) {
    Py_buffer *w = hold(held, weights, 1);
    if (w == NULL || w->itemsize == 2 || !is_aligned(w) || !in_range(lo, hi, w)) return 0;
    *kind = kind_of(w);
    u->weights = w->buf;
    if (PyTuple_Size(state) != u->optimizer->slots || PyTuple_Size(constants) != u->optimizer->constants) {
        PyErr_Format(PyExc_ValueError, "%s has %d slots and %d constants, not %zd and %zd", u->optimizer->name,
                     u->optimizer->slots, u->optimizer->constants, PyTuple_Size(state), PyTuple_Size(constants));
        return 0;
    }
    for (int k = 0; k < u->optimizer->slots; ++k) {
        Py_buffer *slot = hold(held, PyTuple_GetItem(state, k), 1);
        if (slot == NULL || !same_size(slot, w) || kind_of(slot) != *kind || !is_aligned(slot)) return 0;
        u->state[k] = slot->buf;
    }
    for (int k = 0; k < u->optimizer->constants; ++k)
        if (!read_number(PyTuple_GetItem(constants, k), &u->constants[k])) return 0;
    if (half != Py_None) {
        Py_buffer *copy = hold(held, half, 1);
        if (copy == NULL || !same_size(copy, w) || copy->itemsize != 2 || *kind != SINGLE || !is_aligned(copy)) return 0;
        u->half = copy->buf;
        u->half_kind = kind_of(copy);
    }
    size_t written = held->count;
    return hold_parts(held, parts, shares, w, &u->gradient) && !any_collide(held, 0, written);
}

static PyObject *update(PyObject *self, PyObject *arguments) {
    const char *name;
    PyObject *weights, *state, *parts, *shares, *scale, *clip, *l2, *constants, *half;
    Py_ssize_t lo, hi;
    Update u = {0};
    Held held = {0};
    char kind = 0;
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "sOO!O!O!O!OOOOdnn:update", &name, &weights, &PyTuple_Type, &state, &PyTuple_Type,
                          &constants, &PyTuple_Type, &parts, &PyTuple_Type, &shares, &scale, &clip, &l2, &half,
                          &u.gradient.limit, &lo, &hi))
        return NULL;
    for (size_t k = 0; k < sizeof optimizers / sizeof *optimizers; ++k)
        if (strcmp(optimizers[k].name, name) == 0) u.optimizer = &optimizers[k];
    if (u.optimizer == NULL) Py_RETURN_NONE;
    u.clips = clip != Py_None;
    if (reserve(&held, 2 + MOST_SLOTS, parts, shares, &u.gradient) && read_number(scale, &u.gradient.scale) &&
        read_number(l2, &u.l2) && (!u.clips || read_number(clip, &u.clip)) &&
        hold_update(&held, &u, weights, state, constants, half, parts, shares, lo, hi, &kind)) {
        size_t first = (size_t)lo, last = (size_t)hi;
        LET_GO(hi - lo, done = kind == SINGLE ? update_f(&u, first, last) : update_d(&u, first, last));
    }
    PyObject *result = answer(&held, done);
    PyMem_Free(held.views);
    PyMem_Free(u.gradient.parts);
    return result;
}

static PyObject *combine(PyObject *self, PyObject *arguments) {
    PyObject *target, *parts, *shares, *scale;
    Py_ssize_t lo, hi;
    Gradient gradient = {0};
    Held held = {0};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO!O!Odnn:combine", &target, &PyTuple_Type, &parts, &PyTuple_Type, &shares, &scale,
                          &gradient.limit, &lo, &hi))
        return NULL;
    if (reserve(&held, 1, parts, shares, &gradient) && read_number(scale, &gradient.scale)) {
        Py_buffer *out = hold(&held, target, 1);
        if (out != NULL && out->itemsize != 2 && is_aligned(out) && in_range(lo, hi, out) &&
            hold_parts(&held, parts, shares, out, &gradient) && !any_collide(&held, 0, 1)) {
            size_t first = (size_t)lo, last = (size_t)hi;
            LET_GO(hi - lo, done = kind_of(out) == SINGLE ? combine_f(&gradient, out->buf, first, last)
                                                          : combine_d(&gradient, out->buf, first, last));
        }
    }
    PyObject *result = answer(&held, done);
    PyMem_Free(held.views);
    PyMem_Free(gradient.parts);
    return result;
}

static int within(const void *data, char kind, double limit, size_t n) {
    if (kind == SINGLE) return within_f(data, (float)limit, n);
    if (kind == DOUBLE) return within_d(data, limit, n);
    return within_half(data, kind == BFLOAT16 ? bfloat16_of((float)limit) : float16_of((float)limit), n);
}

/* Whether all is within the limit; what is not ends the search. */
static int all_within(const char *data, size_t itemsize, char kind, double limit, size_t n) {
    for (size_t at = 0; at < n; at += 8 * TILE)
        if (!within(data + at * itemsize, kind, limit, n - at < 8 * TILE ? n - at : 8 * TILE)) return 0;
    return 1;
}

static PyObject *check(PyObject *self, PyObject *arguments) {
    PyObject *array;
    double limit;
    Py_buffer views[1];
    Held held = {views, 0, 1};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "Od:check", &array, &limit)) return NULL;
    Py_buffer *x = hold(&held, array, 0);
    if (x != NULL && is_aligned(x)) {
        size_t n = (size_t)x->shape[0], itemsize = (size_t)x->itemsize;
        LET_GO(n, done = all_within(x->buf, itemsize, kind_of(x), limit, n));
    }
    return answer(&held, done);
}

static int copy_tiles(const char *from, char *to, size_t itemsize, char kind, double limit, size_t n) {
    int fine = 1;
    for (size_t at = 0; at < n; at += TILE) {
        size_t count = n - at < TILE ? n - at : TILE;
        memcpy(to + at * itemsize, from + at * itemsize, count * itemsize);
        fine &= within(to + at * itemsize, kind, limit, count);
    }
    return fine;
}

static PyObject *copy(PyObject *self, PyObject *arguments) {
    PyObject *source, *target;
    double limit;
    Py_buffer views[2], *to, *from;
    Held held = {views, 0, 2};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOd:copy", &target, &source, &limit)) return NULL;
    if (hold_two(&held, target, source, &to, &from) && kind_of(from) == kind_of(to) && is_aligned(to) &&
        from->buf != to->buf) {
        size_t n = (size_t)to->shape[0], itemsize = (size_t)to->itemsize;
        LET_GO(n, done = copy_tiles(from->buf, to->buf, itemsize, kind_of(to), limit, n));
    }
    return answer(&held, done);
}

static PyObject *add(PyObject *self, PyObject *arguments) {
    PyObject *target, *source, *number;
    double factor;
    Py_buffer views[2], *x, *y;
    Held held = {views, 0, 2};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOO:add", &target, &source, &number)) return NULL;
    if (hold_two(&held, target, source, &x, &y) && kind_of(y) == kind_of(x) && x->itemsize != 2 && is_aligned(x) &&
        is_aligned(y) && read_number(number, &factor)) {
        size_t n = (size_t)x->shape[0];
        if (kind_of(x) == SINGLE) LET_GO(n, add_multiple_f(x->buf, y->buf, (float)factor, x->buf, n));
        else LET_GO(n, add_multiple_d(x->buf, y->buf, factor, x->buf, n));
        done = 1;
    }
    return answer(&held, done);
}

static PyObject *square_sum(PyObject *self, PyObject *array) {
    Py_buffer views[1];
    Held held = {views, 0, 1};
    double sum = 0;
    int done = -1;
    (void)self;
    Py_buffer *x = hold(&held, array, 0);
    if (x != NULL && x->itemsize != 2 && is_aligned(x)) {
        size_t n = (size_t)x->shape[0];
        if (kind_of(x) == SINGLE) LET_GO(n, sum = squares_f(x->buf, n));
        else LET_GO(n, sum = squares_d(x->buf, n));
        done = 1;
    }
    PyObject *result = answer(&held, done);
    if (result != Py_True) return result;
    Py_DECREF(result);
    return PyFloat_FromDouble(sum);
}

static PyObject *narrow_array(PyObject *self, PyObject *arguments) {
    PyObject *source, *target, *bound;
    double most = 0;
    Py_buffer views[2], *to, *from;
    Held held = {views, 0, 2};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOO:narrow", &source, &target, &bound)) return NULL;
    if (hold_two(&held, target, source, &to, &from) && kind_of(from) == SINGLE && to->itemsize == 2 &&
        is_aligned(from) && is_aligned(to) && (bound == Py_None || read_number(bound, &most))) {
        size_t n = (size_t)to->shape[0];
        if (bound == Py_None) LET_GO(n, narrow(from->buf, kind_of(to), to->buf, n));
        else LET_GO(n, clip_narrow(from->buf, (float)most, kind_of(to), to->buf, n));
        done = 1;
    }
    return answer(&held, done);
}

static PyObject *widen_array(PyObject *self, PyObject *arguments) {
    PyObject *source, *target;
    Py_buffer views[2], *to, *from;
    Held held = {views, 0, 2};
    int done = -1;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO:widen", &source, &target)) return NULL;
    if (hold_two(&held, target, source, &to, &from) && kind_of(to) == SINGLE && from->itemsize == 2 &&
        is_aligned(from) && is_aligned(to)) {
        size_t n = (size_t)to->shape[0];
        LET_GO(n, widen(from->buf, kind_of(from), to->buf, n));
        done = 1;
    }
    return answer(&held, done);
}

static PyMethodDef methods[] = {
    {"add", add, METH_VARARGS, "add(total, x, factor): total += x * factor"},
    {"check", check, METH_VARARGS, "check(x, limit): whether no element is NaN or beyond the limit"},
    {"combine", combine, METH_VARARGS, "combine(out, parts, shares, scale, limit, lo, hi): out = sum(part * share) * scale"},
    {"copy", copy, METH_VARARGS, "copy(target, source, limit): copy, and check"},
    {"dequantize", dequantize, METH_VARARGS, "dequantize(out, scales, codes, lo): codes from lo on, times their scales"},
    {"from_bits", from_bits, METH_VARARGS, "from_bits(out, middles, halves, bits, lo): what bits from lo on stand for"},
    {"narrow", narrow_array, METH_VARARGS, "narrow(single, half, bound): round, first within the bound unless None"},
    {"quantize", quantize, METH_VARARGS, "quantize(x, chance, scales, codes, spread, least): int8"},
    {"square_sum", square_sum, METH_O, "square_sum(x): the sum of squares, in double precision"},
    {"to_bits", to_bits, METH_VARARGS, "to_bits(x, middles, halves, bits): onebit"},
    {"update", update, METH_VARARGS,
     "update(name, w, state, constants, parts, shares, scale, clip, l2, half, limit, lo, hi): one step of an optimizer"},
    {"widen", widen_array, METH_VARARGS, "widen(half, single): the same numbers"},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module) {
    size_t count = sizeof optimizers / sizeof *optimizers;
    PyObject *names = PyTuple_New((Py_ssize_t)count);
    for (size_t k = 0; names != NULL && k < count; ++k) {
        PyObject *name = PyUnicode_FromString(optimizers[k].name);
        if (name == NULL) Py_CLEAR(names);
        else PyTuple_SetItem(names, (Py_ssize_t)k, name);
    }
    if (names == NULL || PyModule_AddIntConstant(module, "VERSION", VERSION) < 0) return -1;
    int failed = PyObject_SetAttrString(module, "OPTIMIZERS", names);
    Py_DECREF(names);
    return failed;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "ps.native._kernels", "Fused loops over vectors; see ps.native.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&definition); }
