/* A bounded msgpack encoder for Python values. It never fails and never runs code of the program's, but for
 * atf_vm.repr: what does not fit is cut, and says so.
 *
 *   None bool int float str bytes     themselves; str ends with "…" and bytes with "..." where cut
 *   an int beyond 64 bits             {"~": "int", "bits": n}
 *   list tuple                        array; set frozenset: {"~": "set" or "frozenset", "items": array}
 *   dict                              map; its values under a secret's name are "***"
 *   where a container was cut         its last element is {"…": how many there are}; in a map, the key "…" has the number
 *   any other object                  {"~": "module.Class"}, with "repr" when asked for */
#ifndef ATF_VALUES_H
#define ATF_VALUES_H
#include "text.h"

#define ATF_VALUE_CHARS 256 /* of a str; bytes of a bytes */
#define ATF_VALUE_ITEMS 16  /* of a container */
#define ATF_VALUE_DEPTH 3   /* containers within containers */
#define ATF_MESSAGE_CHARS 200 /* of an exception */
#define ATF_VALUE_RESERVE 1536 /* kept free behind `full`: one longest leaf and the markers of all levels */

typedef struct atf_values {
    uint8_t *p, *full; /* at or behind full only markers are written */
    uint8_t bytes[ATF_DETAIL_MAX];
} atf_values;

static inline void atf_values_start(atf_values *v)
{
    v->p = v->bytes;
    v->full = v->bytes + ATF_DETAIL_MAX - ATF_VALUE_RESERVE;
}
static inline uint32_t atf_values_size(const atf_values *v) { return (uint32_t)(v->p - v->bytes); }

void atf_put_map(atf_values *v, uint32_t count); /* at most 15 */
void atf_put_text(atf_values *v, const char *text); /* at most 31 bytes */
void atf_put_str(atf_values *v, PyObject *text);
void atf_put_long(atf_values *v, int64_t value);
void atf_put_value(atf_values *v, PyObject *value, int depth);
void atf_put_type_name(atf_values *v, PyTypeObject *type);
#endif
