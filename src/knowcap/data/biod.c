/* What chunks.py beside this file composes, number for number, in one pass over the people. */

#include "rng.h"

enum { NAME_PARTS = 3 };

/* The fragments that biographies are made of; those of a kind follow one another. */
typedef struct {
    Network names;
    uint64_t name_key, value_key;
    uint64_t part[NAME_PARTS], num_parts[NAME_PARTS];
    int64_t head, later_head, chunk, num_chunks, diversity;
    const int64_t *separator;
} Wording;

static void write_names(int64_t number, const int64_t *person, const Wording *w,
                        int64_t num_columns, int64_t *out) {
    uint64_t key[TOGETHER], name[TOGETHER];
    for (int64_t i = 0; i < number; i++) key[i] = w->name_key, name[i] = person[i];
    permute(number, key, &w->names, name);
    for (int64_t i = 0; i < number; i++)
        for (int64_t part = NAME_PARTS - 1; part >= 0; part--) {
            const uint64_t others = name[i] / w->num_parts[part];
            out[i * num_columns + part] = w->part[part] + name[i] - others * w->num_parts[part];
            name[i] = others;
        }
}

/* What is told at place `told` of each person's order. */
static void write_facts(int64_t number, const int64_t *person, int64_t num_told, int64_t told,
                        const int64_t *order, const Wording *w, int64_t num_columns,
                        int64_t *out) {
    const int64_t head = told ? w->later_head : w->head, apart = w->separator ? 2 : 1;
    for (int64_t i = 0; i < number; i++) out[i * num_columns] = head + order[i * num_told + told];
    for (int64_t chunk = 0; chunk < w->num_chunks; chunk++) {
        int64_t drawn[TOGETHER];
        for (int64_t i = 0; i < number; i++) {
            const int64_t attribute = order[i * num_told + told];
            const uint64_t own = bits(w->value_key, person[i]);
            drawn[i] = w->chunk + attribute * w->diversity +
                       scaled(bits(own, attribute * w->num_chunks + chunk), w->diversity);
        }
        int64_t *place = out + 1 + apart * chunk;
        for (int64_t i = 0; i < number; i++) place[i * num_columns] = drawn[i];
        if (w->separator)
            for (int64_t i = 0; i < number; i++)
                place[i * num_columns + 1] = w->separator[chunk];
    }
}

/* out[people, fragments] = biographies that tell the attributes of order[people, told]. */
void composed(int64_t num_people, const int64_t *person, int64_t num_told, const int64_t *order,
              int64_t opening, const Wording *w, int64_t *out) {
    const int64_t step = 1 + w->num_chunks * (w->separator ? 2 : 1);
    const int64_t before = 1 + NAME_PARTS, num_columns = before + num_told * step;
    for (int64_t first = 0; first < num_people; first += TOGETHER) {
        const int64_t left = num_people - first, number = left < TOGETHER ? left : TOGETHER;
        const int64_t *who = person + first, *what = order + first * num_told;
        int64_t *written = out + first * num_columns;
        for (int64_t i = 0; i < number; i++) written[i * num_columns] = opening;
        write_names(number, who, w, num_columns, written + 1);
        for (int64_t told = 0; told < num_told; told++)
            write_facts(number, who, num_told, told, what, w, num_columns,
                        written + before + told * step);
    }
}
