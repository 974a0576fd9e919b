/* Arguments: arrays and numbers that Python gives, checked and held until they are given back. */
#ifndef PS_ARGUMENTS_H
#define PS_ARGUMENTS_H

#include "clones.h"

#define UNLOCKED 2048 /* elements from which others may have the interpreter meanwhile */

/* The arrays of one call, which are given back together. */
typedef struct {
    Py_buffer *views;
    size_t count, room;
} Held;

#define NUMBERS "fdeH" /* what loops compute with: see clones.h */
#define BYTES "b"      /* the codes of int8 */

/* Return the letter of an array's elements, 0 for none of ``letters``. NumPy says '=' first where it is not aligned. */
static char kind_among(const Py_buffer *view, const char *letters) {
    const char *format = view->format == NULL ? "B" : view->format;
    format += *format == '=' || *format == '@';
    return format[0] != 0 && format[1] == 0 && strchr(letters, format[0]) != NULL ? format[0] : 0;
}

static char kind_of(const Py_buffer *view) { return kind_among(view, NUMBERS); }

/* Take another array: 1-D, contiguous, of a kind among ``letters``. Return it, or NULL, with an exception or with none
   where the array is another's affair. */
static Py_buffer *hold_among(Held *held, PyObject *array, int writable, const char *letters) {
    if (held->count == held->room) {
        PyErr_SetString(PyExc_ValueError, "more arrays than there is room for");
        return NULL;
    }
    Py_buffer *view = &held->views[held->count];
    if (PyObject_GetBuffer(array, view, PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0)) < 0) return NULL;
    held->count++;
    if (view->ndim != 1 || kind_among(view, letters) == 0) return NULL;
    if (view->shape[0] > 1 && view->strides[0] != view->itemsize) return NULL;
    return view;
}

static Py_buffer *hold(Held *held, PyObject *array, int writable) {
    return hold_among(held, array, writable, NUMBERS);
}

static void give_back(Held *held) {
    for (size_t i = 0; i < held->count; ++i) PyBuffer_Release(&held->views[i]);
}

static int is_aligned(const Py_buffer *view) { return (uintptr_t)view->buf % (size_t)view->itemsize == 0; }

/* Whether two arrays have memory in common, but not element for element. */
static int collide(const Py_buffer *a, const Py_buffer *b) {
    const char *first = a->buf, *second = b->buf;
    if (first == second && a->itemsize == b->itemsize) return 0;
    return first < second + b->len && second < first + a->len;
}

/* Whether one of the arrays from ``first`` on, which are written, collides with another one of the call. */
static int any_collide(const Held *held, size_t first, size_t last) {
    for (size_t i = first; i < last; ++i)
        for (size_t k = 0; k < held->count; ++k)
            if (i != k && collide(&held->views[i], &held->views[k])) return 1;
    return 0;
}

/* Read a number as NumPy does beside an array: Python's own take the array's precision, NumPy's have one of theirs, and
   so are not for us. Return 0 for those. */
static int read_number(PyObject *number, double *into) {
    if (!(Py_IS_TYPE(number, &PyFloat_Type) || Py_IS_TYPE(number, &PyLong_Type))) return 0;
    *into = PyFloat_AsDouble(number);
    return !(*into == -1 && PyErr_Occurred());
}

static int in_range(Py_ssize_t lo, Py_ssize_t hi, const Py_buffer *view) {
    if (0 <= lo && lo <= hi && hi <= view->shape[0]) return 1;
    PyErr_Format(PyExc_ValueError, "elements %zd to %zd of an array of %zd", lo, hi, view->shape[0]);
    return 0;
}

static int same_size(const Py_buffer *view, const Py_buffer *other) {
    if (view->shape[0] == other->shape[0]) return 1;
    PyErr_Format(PyExc_ValueError, "an array of %zd elements beside one of %zd", view->shape[0], other->shape[0]);
    return 0;
}

/* Take an array to write and one of its size to read, which do not collide. Return 0, with an exception or with none. */
static int hold_two(Held *held, PyObject *target, PyObject *source, Py_buffer **to, Py_buffer **from) {
    *to = hold(held, target, 1);
    *from = *to == NULL ? NULL : hold(held, source, 0);
    return *from != NULL && same_size(*from, *to) && !any_collide(held, 0, 1);
}

/* Take a gradient's parts and shares, each like ``like`` or, where that is float32, in half precision. */
static int hold_parts(Held *held, PyObject *parts, PyObject *shares, const Py_buffer *like, Gradient *gradient) {
    for (Py_ssize_t k = 0; k < PyTuple_Size(parts); ++k) {
        Py_buffer *view = hold(held, PyTuple_GetItem(parts, k), 0);
        Part *part = &gradient->parts[k];
        if (view == NULL || !same_size(view, like)) return 0;
        int is_half = view->itemsize == 2 && kind_of(like) == SINGLE;
        if (!(is_half || kind_of(view) == kind_of(like))) return 0;
        if (!read_number(PyTuple_GetItem(shares, k), &part->share)) return 0;
        part->data = view->buf;
        part->itemsize = (size_t)view->itemsize;
        part->kind = kind_of(view);
    }
    gradient->count = (size_t)PyTuple_Size(parts);
    return 1;
}

/* Reserve room for a call's arrays and for a gradient's parts. */
static int reserve(Held *held, size_t others, PyObject *parts, PyObject *shares, Gradient *gradient) {
    size_t count = (size_t)PyTuple_Size(parts);
    if (count == 0 || PyTuple_Size(shares) != (Py_ssize_t)count) {
        PyErr_SetString(PyExc_ValueError, "a gradient has at least one part, and each a share");
        return 0;
    }
    held->room = others + count;
    held->views = PyMem_Calloc(held->room, sizeof *held->views);
    gradient->parts = PyMem_Calloc(count, sizeof *gradient->parts);
    if (held->views != NULL && gradient->parts != NULL) return 1;
    PyErr_NoMemory();
    return 0;
}

/* End a call: -1 says that nothing was done. */
static PyObject *answer(Held *held, int done) {
    give_back(held);
    if (PyErr_Occurred()) return NULL;
    if (done < 0) Py_RETURN_NONE;
    return PyBool_FromLong(done);
}

#define LET_GO(size, work) \
    do { \
        if ((size) < UNLOCKED) { \
            work; \
        } else { \
            Py_BEGIN_ALLOW_THREADS; \
            work; \
            Py_END_ALLOW_THREADS; \
        } \
    } while (0)

#endif
