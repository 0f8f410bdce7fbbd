/* Memory, peers, reads and their completions. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The longest address that is taken from a peer. */
#define ADDRESS_BYTES_MOST 256

/* Completions taken from the library at once. */
#define BATCH 16

static void describe(const struct panta_fabric *fabric, struct panta_fabric_info *out) {
    shim_describe(fabric->info, out);
    out->depth = fabric->depth;
}

static int address(struct panta_fabric *fabric, void *out, uint64_t *bytes,
                   struct panta_fabric_error *error) {
    size_t room = *bytes;
    int code = fi_getname(&fabric->ep->fid, out, &room);
    *bytes = room;
    return code ? shim_failed(error, "fi_getname", code) : 0;
}

static int wait_fd(const struct panta_fabric *fabric) { return fabric->wait_fd; }

static int may_sleep(struct panta_fabric *fabric) {
    struct fid *fid = &fabric->cq->fid;
    return fabric->wait_fd < 0 || fi_trywait(fabric->fabric, &fid, 1) == FI_SUCCESS;
}

static int add_memory(struct panta_fabric *fabric, void *start, uint64_t bytes, int remote,
                      uint64_t wished_key, struct panta_fabric_memory **out,
                      struct panta_fabric_error *error) {
    struct panta_fabric_memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return shim_failed(error, "calloc", -FI_ENOMEM);
    uint64_t access = remote ? FI_REMOTE_READ : FI_READ;
    int code = fi_mr_reg(fabric->domain, start, bytes, access, 0, wished_key, 0, &memory->mr, NULL);
    if (code) {
        free(memory);
        return shim_failed(error, "fi_mr_reg", code);
    }
    const char *call = "fi_mr_bind";
    if (fabric->info->domain_attr->mr_mode & FI_MR_ENDPOINT) {
        code = fi_mr_bind(memory->mr, &fabric->ep->fid, 0);
        if (!code) {
            call = "fi_mr_enable";
            code = fi_mr_enable(memory->mr);
        }
    }
    if (!code && remote && fi_mr_key(memory->mr) == FI_KEY_NOTAVAIL) {
        call = "fi_mr_key";
        code = -FI_ENOKEY;
    }
    if (code) {
        fi_close(&memory->mr->fid);
        free(memory);
        return shim_failed(error, call, code);
    }
    memory->fabric = fabric;
    memory->next = fabric->memories;
    memory->back = &fabric->memories;
    if (memory->next)
        memory->next->back = &memory->next;
    fabric->memories = memory;
    *out = memory;
    return 0;
}

static uint64_t key(const struct panta_fabric_memory *memory) { return fi_mr_key(memory->mr); }

static int remove_memory(struct panta_fabric_memory *memory, struct panta_fabric_error *error) {
    int code = fi_close(&memory->mr->fid);
    if (code)
        return shim_failed(error, "fi_close (memory)", code);
    *memory->back = memory->next;
    if (memory->next)
        memory->next->back = memory->back;
    free(memory);
    return 0;
}

/* Whether bytes of a peer can be an address of this endpoint's format: the
 * library takes a pointer and believes that the rest is there. */
static int is_address(struct panta_fabric *fabric, const void *bytes, uint64_t count) {
    if (!count || count > ADDRESS_BYTES_MOST)
        return 0;
    if (fabric->info->addr_format == FI_ADDR_STR)
        return ((const char *)bytes)[count - 1] == 0;
    size_t own = 0;
    /* Too little room is what makes it tell the length. */
    fi_getname(&fabric->ep->fid, NULL, &own);
    return own == count;
}

static int add_peer(struct panta_fabric *fabric, const void *address, uint64_t bytes,
                    uint64_t *peer, struct panta_fabric_error *error) {
    fi_addr_t found = FI_ADDR_NOTAVAIL;
    if (!is_address(fabric, address, bytes))
        return shim_failed(error, "an address of another format", -FI_EINVAL);
    int inserted = fi_av_insert(fabric->av, address, 1, &found, 0, NULL);
    if (inserted != 1 || found == FI_ADDR_NOTAVAIL)
        return shim_failed(error, "fi_av_insert", inserted < 0 ? inserted : -FI_EHOSTUNREACH);
    *peer = found;
    return 0;
}

static int read_some(struct panta_fabric *fabric, uint64_t peer, void *into, uint64_t bytes,
                     struct panta_fabric_memory *local, uint64_t address, uint64_t key,
                     uint64_t token, struct panta_fabric_error *error) {
    uint32_t index = fabric->free;
    if (index == NO_OPERATION)
        return -FI_EAGAIN;
    struct operation *operation = &fabric->operations[index];
    void *descriptor = local ? fi_mr_desc(local->mr) : NULL;
    operation->token = token;
    ssize_t code = fi_read(fabric->ep, into, bytes, descriptor, peer, address, key,
                           &operation->context);
    if (code == -FI_EAGAIN)
        return -FI_EAGAIN;
    if (code)
        return shim_failed(error, "fi_read", code);
    fabric->free = operation->next;
    operation->next = NO_OPERATION;
    return 0;
}

/* Puts the operation of a completion back; its token, or UINT64_MAX where the
 * provider gave none of ours. */
static uint64_t retire(struct panta_fabric *fabric, const void *context) {
    const struct operation *first = fabric->operations;
    uint64_t offset = (uint64_t)((uintptr_t)context - (uintptr_t)first);
    uint64_t index = offset / sizeof *first;
    if (!context || (uintptr_t)context < (uintptr_t)first || index >= fabric->depth)
        return UINT64_MAX;
    struct operation *operation = &fabric->operations[index];
    operation->next = fabric->free;
    fabric->free = (uint32_t)index;
    return operation->token;
}

/* The failed operation at the head of the queue. */
static int64_t take_failed(struct panta_fabric *fabric, struct panta_fabric_completion *out,
                           struct panta_fabric_error *error) {
    struct fi_cq_err_entry entry;
    memset(&entry, 0, sizeof entry);
    ssize_t code = fi_cq_readerr(fabric->cq, &entry, 0);
    if (code == -FI_EAGAIN)
        return 0;
    if (code < 0)
        return shim_failed(error, "fi_cq_readerr", code);
    char says[PANTA_FABRIC_TEXT_BYTES / 2] = "";
    const char *provider = fi_cq_strerror(fabric->cq, entry.prov_errno, entry.err_data, says,
                                          sizeof says);
    out->token = retire(fabric, entry.op_context);
    out->error = entry.err ? entry.err : FI_EIO;
    snprintf(out->text, sizeof out->text, "%s (the provider says: %.120s)",
             library.strerror(out->error), provider ? provider : "nothing");
    return 1;
}

static int64_t progress(struct panta_fabric *fabric, struct panta_fabric_completion *out,
                        uint64_t capacity, struct panta_fabric_error *error) {
    struct fi_cq_entry entries[BATCH];
    uint64_t taken = 0;
    while (taken < capacity) {
        uint64_t room = capacity - taken;
        ssize_t got = fi_cq_read(fabric->cq, entries, room < BATCH ? room : BATCH);
        if (got == -FI_EAGAIN || got == 0)
            break;
        if (got == -FI_EAVAIL) {
            int64_t failed = take_failed(fabric, &out[taken], error);
            if (failed <= 0)
                return failed < 0 ? failed : (int64_t)taken;
            taken++;
            continue;
        }
        if (got < 0)
            return shim_failed(error, "fi_cq_read", got);
        for (ssize_t i = 0; i < got; i++, taken++) {
            out[taken].token = retire(fabric, entries[i].op_context);
            out[taken].error = 0;
            out[taken].text[0] = 0;
        }
    }
    return (int64_t)taken;
}

static const struct panta_fabric_table table = {
    .version = PANTA_FABRIC_TABLE_VERSION,
    .bytes = sizeof(struct panta_fabric_table),
    .start = shim_start,
    .library_version = shim_library_version,
    .header_version = shim_header_version,
    .providers = shim_providers,
    .open = shim_open,
    .close = shim_close,
    .describe = describe,
    .address = address,
    .wait_fd = wait_fd,
    .may_sleep = may_sleep,
    .add_memory = add_memory,
    .key = key,
    .remove_memory = remove_memory,
    .add_peer = add_peer,
    .read = read_some,
    .progress = progress,
};

const struct panta_fabric_table *panta_fabric_shim_table(void) { return &table; }
