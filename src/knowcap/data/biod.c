/* bioD biographies as template ids, bit-identical to the numpy code in biod.py, in one pass. */

#include "rng.h"

enum { NAME_PARTS = 3 };

/* Keys of the random draws, and ids of the templates: each kind's ids are consecutive, so its
 * first id is enough. `separator_id` holds one id per chunk, or is NULL in the compact layout. */
typedef struct {
    FeistelNetwork names;
    uint64_t name_key, value_key;
    uint64_t first_name_id[NAME_PARTS], name_pool_size[NAME_PARTS];
    int64_t first_head_id, first_later_head_id, first_chunk_id, num_chunks, diversity;
    const int64_t *separator_id;
} BiographyFormat;

/* Writes the three name parts of up to MAX_BATCH people. */
static void write_names(int64_t num_people, const int64_t *person_id, const BiographyFormat *f,
                        int64_t num_columns, int64_t *out) {
    uint64_t key[MAX_BATCH], name_id[MAX_BATCH];
    for (int64_t i = 0; i < num_people; i++) key[i] = f->name_key, name_id[i] = person_id[i];
    permute_batch(num_people, key, &f->names, name_id);
    for (int64_t i = 0; i < num_people; i++)
        for (int64_t part = NAME_PARTS - 1; part >= 0; part--) {
            const uint64_t quotient = name_id[i] / f->name_pool_size[part];
            out[i * num_columns + part] =
                f->first_name_id[part] + name_id[i] - quotient * f->name_pool_size[part];
            name_id[i] = quotient;
        }
}

/* Writes attribute number `position` in the order of each of up to MAX_BATCH people. */
static void write_attribute(int64_t num_people, const int64_t *person_id, int64_t num_attributes,
                            int64_t position, const int64_t *order, const BiographyFormat *f,
                            int64_t num_columns, int64_t *out) {
    const int64_t head_id = position ? f->first_later_head_id : f->first_head_id,
                  stride = f->separator_id ? 2 : 1;
    for (int64_t i = 0; i < num_people; i++)
        out[i * num_columns] = head_id + order[i * num_attributes + position];
    for (int64_t chunk = 0; chunk < f->num_chunks; chunk++) {
        int64_t chunk_id[MAX_BATCH];
        for (int64_t i = 0; i < num_people; i++) {
            const int64_t attribute = order[i * num_attributes + position];
            const uint64_t person_key = random_bits(f->value_key, person_id[i]);
            chunk_id[i] =
                f->first_chunk_id + attribute * f->diversity
                + scale_to_range(random_bits(person_key, attribute * f->num_chunks + chunk),
                                 f->diversity);
        }
        int64_t *column = out + 1 + stride * chunk;
        for (int64_t i = 0; i < num_people; i++) column[i * num_columns] = chunk_id[i];
        if (f->separator_id)
            for (int64_t i = 0; i < num_people; i++)
                column[i * num_columns + 1] = f->separator_id[chunk];
    }
}

/* out[people, templates] = biographies that state the attributes of order[people, attributes]. */
void write_biographies(int64_t num_people, const int64_t *person_id, int64_t num_attributes,
                       const int64_t *order, int64_t opening_id, const BiographyFormat *f,
                       int64_t *out) {
    const int64_t attribute_columns = 1 + f->num_chunks * (f->separator_id ? 2 : 1);
    const int64_t first_attribute_column = 1 + NAME_PARTS,
                  num_columns = first_attribute_column + num_attributes * attribute_columns;
    for (int64_t first = 0; first < num_people; first += MAX_BATCH) {
        const int64_t remaining = num_people - first,
                      batch = remaining < MAX_BATCH ? remaining : MAX_BATCH;
        const int64_t *batch_person_id = person_id + first,
                      *batch_order = order + first * num_attributes;
        int64_t *batch_out = out + first * num_columns;
        for (int64_t i = 0; i < batch; i++) batch_out[i * num_columns] = opening_id;
        write_names(batch, batch_person_id, f, num_columns, batch_out + 1);
        for (int64_t position = 0; position < num_attributes; position++)
            write_attribute(batch, batch_person_id, num_attributes, position, batch_order, f,
                            num_columns,
                            batch_out + first_attribute_column + position * attribute_columns);
    }
}
