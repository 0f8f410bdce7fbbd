/* The library, its providers, and endpoints from open to close. */
#include "internal.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "libfabric.so.1"

/* The interface that is asked for: old enough for every cluster (1.11 came
 * in 2020), and fixed, so that no provider behaves differently under newer
 * headers. */
#define INTERFACE FI_VERSION(1, 11)

/* All that can be honoured. FI_MR_RAW cannot, and is asked about so that a
 * provider which needs it is refused by name and not just missing. */
#define MR_MODES                                                                            \
    (FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY | FI_MR_ENDPOINT | FI_MR_RAW)

#define DEPTH_DEFAULT 64u
#define DEPTH_MOST 1024u

struct library library;

int shim_failed(struct panta_fabric_error *error, const char *call, int64_t code) {
    int positive = (int)(code < 0 ? -code : code);
    const char *says = library.strerror ? library.strerror(positive) : strerror(positive);
    error->code = positive;
    snprintf(error->text, sizeof error->text, "%s: %s", call, says ? says : "unknown error");
    return -positive;
}

static int missing(struct panta_fabric_error *error, const char *what) {
    error->code = FI_ENOSYS;
    snprintf(error->text, sizeof error->text, "%s", what);
    return -FI_ENOSYS;
}

/* Some providers (psm when loaded, shm when enabled) install handlers for these;
 * a program's signals are its own, so what was there is put back. */
static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGINT, SIGTERM};
#define SIGNALS (sizeof signals / sizeof *signals)

static void keep_handlers(struct sigaction kept[SIGNALS]) {
    for (size_t i = 0; i < SIGNALS; i++)
        sigaction(signals[i], NULL, &kept[i]);
}

static void put_back_handlers(const struct sigaction kept[SIGNALS]) {
    for (size_t i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &kept[i], NULL);
}

static int start(struct panta_fabric_error *error);

int shim_start(struct panta_fabric_error *error) {
    struct sigaction kept[SIGNALS];
    keep_handlers(kept);
    int code = start(error);
    put_back_handlers(kept);
    return code;
}

static int start(struct panta_fabric_error *error) {
    if (library.handle)
        return 0;
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        return missing(error, why ? why : LIBRARY " cannot be opened");
    }
    /* POSIX lets data pointers become function pointers, C does not. */
    uint32_t (*version)(void);
    struct { void **to; const char *name; } wanted[] = {
        {(void **)&version, "fi_version"},
        {(void **)&library.getinfo, "fi_getinfo"},
        {(void **)&library.freeinfo, "fi_freeinfo"},
        {(void **)&library.dupinfo, "fi_dupinfo"},
        {(void **)&library.fabric, "fi_fabric"},
        {(void **)&library.strerror, "fi_strerror"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        *wanted[i].to = dlsym(handle, wanted[i].name);
        if (!*wanted[i].to) {
            snprintf(error->text, sizeof error->text, LIBRARY " has no %s", wanted[i].name);
            error->code = FI_ENOSYS;
            library.strerror = NULL;
            dlclose(handle);
            return -FI_ENOSYS;
        }
    }
    library.version = version();
    if (FI_VERSION_LT(library.version, INTERFACE)) {
        library.strerror = NULL;
        dlclose(handle);
        return missing(error, LIBRARY " is older than 1.11");
    }
    library.handle = handle;
    return 0;
}

uint32_t shim_library_version(void) { return library.version; }

uint32_t shim_header_version(void) { return FI_VERSION(FI_MAJOR_VERSION, FI_MINOR_VERSION); }

static void *duplicate(const void *bytes, uint64_t count) {
    void *copy = malloc(count ? count : 1);
    if (copy)
        memcpy(copy, bytes, count);
    return copy;
}

/* What any endpoint of ours asks for; NULL without memory. fi_freeinfo frees
 * the copies made here. */
static struct fi_info *make_hints(const struct panta_fabric_options *options) {
    struct fi_info *hints = library.dupinfo(NULL);
    if (!hints)
        return NULL;
    hints->caps = FI_RMA | FI_READ | FI_REMOTE_READ;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->addr_format = options->address_format;
    hints->ep_attr->type = FI_EP_RDM;
    hints->domain_attr->mr_mode = MR_MODES;
    /* One thread at a time: the least that can be asked, so all can grant it. */
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->domain_attr->control_progress = FI_PROGRESS_UNSPEC;
    hints->domain_attr->data_progress = FI_PROGRESS_UNSPEC;
    int whole = 1;
    if (options->provider)
        whole &= (hints->fabric_attr->prov_name = strdup(options->provider)) != NULL;
    if (options->domain)
        whole &= (hints->domain_attr->name = strdup(options->domain)) != NULL;
    if (options->auth_key_bytes) {
        hints->domain_attr->auth_key = duplicate(options->auth_key, options->auth_key_bytes);
        hints->domain_attr->auth_key_size = options->auth_key_bytes;
        whole &= hints->domain_attr->auth_key != NULL;
    }
    if (options->peer_bytes) {
        hints->dest_addr = duplicate(options->peer, options->peer_bytes);
        hints->dest_addrlen = options->peer_bytes;
        whole &= hints->dest_addr != NULL;
    }
    if (!whole) {
        library.freeinfo(hints);
        return NULL;
    }
    return hints;
}

static int find(const struct panta_fabric_options *options, struct fi_info **found,
                struct panta_fabric_error *error) {
    struct fi_info *hints = make_hints(options);
    if (!hints)
        return shim_failed(error, "fi_allocinfo", -FI_ENOMEM);
    uint64_t flags = options->node ? FI_SOURCE : 0;
    struct sigaction kept[SIGNALS];
    keep_handlers(kept);
    int code = library.getinfo(INTERFACE, options->node, NULL, flags, hints, found);
    put_back_handlers(kept);
    library.freeinfo(hints);
    return code ? shim_failed(error, "fi_getinfo", code) : 0;
}

static void copy_name(char *to, const char *from) {
    snprintf(to, PANTA_FABRIC_NAME_BYTES, "%s", from ? from : "");
}

void shim_describe(const struct fi_info *info, struct panta_fabric_info *out) {
    int mode = info->domain_attr->mr_mode;
    memset(out, 0, sizeof *out);
    copy_name(out->provider, info->fabric_attr->prov_name);
    copy_name(out->domain, info->domain_attr->name);
    out->address_format = info->addr_format;
    out->max_message_bytes = info->ep_attr->max_msg_size;
    out->depth = info->tx_attr->size;
    out->key_bytes = info->domain_attr->mr_key_size;
    if (mode & FI_MR_LOCAL)
        out->flags |= PANTA_FABRIC_LOCAL;
    if (mode & FI_MR_VIRT_ADDR)
        out->flags |= PANTA_FABRIC_VIRTUAL_ADDRESS;
    if (mode & FI_MR_PROV_KEY)
        out->flags |= PANTA_FABRIC_PROVIDER_KEY;
    if (mode & FI_MR_ENDPOINT)
        out->flags |= PANTA_FABRIC_ENDPOINT_MEMORY;
    if (mode & FI_MR_RAW)
        out->flags |= PANTA_FABRIC_RAW_KEY;
    if (info->domain_attr->data_progress != FI_PROGRESS_AUTO ||
        info->domain_attr->control_progress != FI_PROGRESS_AUTO)
        out->flags |= PANTA_FABRIC_MANUAL;
}

int shim_providers(const struct panta_fabric_options *options, struct panta_fabric_info *out,
                   uint64_t capacity, uint64_t *count, struct panta_fabric_error *error) {
    struct fi_info *found = NULL;
    *count = 0;
    int code = find(options, &found, error);
    if (code)
        return code == -FI_ENODATA ? 0 : code;
    for (struct fi_info *info = found; info && *count < capacity; info = info->next)
        shim_describe(info, &out[(*count)++]);
    library.freeinfo(found);
    return 0;
}

/* The queue with a descriptor to sleep on, where the provider has one. */
static int open_queue(struct panta_fabric *fabric, struct panta_fabric_error *error) {
    struct fi_cq_attr attr = {
        .size = fabric->depth + 16,
        .format = FI_CQ_FORMAT_CONTEXT,
        .wait_obj = FI_WAIT_FD,
    };
    fabric->wait_fd = -1;
    int code = fi_cq_open(fabric->domain, &attr, &fabric->cq, NULL);
    if (!code && !fi_control(&fabric->cq->fid, FI_GETWAIT, &fabric->wait_fd))
        return 0;
    if (!code)
        fi_close(&fabric->cq->fid);
    fabric->cq = NULL;
    fabric->wait_fd = -1;
    attr.wait_obj = FI_WAIT_NONE;
    code = fi_cq_open(fabric->domain, &attr, &fabric->cq, NULL);
    return code ? shim_failed(error, "fi_cq_open", code) : 0;
}

static int open_endpoint(struct panta_fabric *fabric, struct panta_fabric_error *error) {
    struct fi_info *info = fabric->info;
    struct fi_av_attr av = {.type = info->domain_attr->av_type};
    int code = library.fabric(info->fabric_attr, &fabric->fabric, NULL);
    if (code)
        return shim_failed(error, "fi_fabric", code);
    if ((code = fi_domain(fabric->fabric, info, &fabric->domain, NULL)))
        return shim_failed(error, "fi_domain", code);
    if ((code = fi_av_open(fabric->domain, &av, &fabric->av, NULL)))
        return shim_failed(error, "fi_av_open", code);
    if ((code = open_queue(fabric, error)))
        return code;
    if ((code = fi_endpoint(fabric->domain, info, &fabric->ep, NULL)))
        return shim_failed(error, "fi_endpoint", code);
    if ((code = fi_ep_bind(fabric->ep, &fabric->av->fid, 0)))
        return shim_failed(error, "fi_ep_bind (address vector)", code);
    if ((code = fi_ep_bind(fabric->ep, &fabric->cq->fid, FI_TRANSMIT | FI_RECV)))
        return shim_failed(error, "fi_ep_bind (completion queue)", code);
    if ((code = fi_enable(fabric->ep)))
        return shim_failed(error, "fi_enable", code);
    return 0;
}

/* The first provider that can be served, for us to keep. */
static int choose(const struct panta_fabric_options *options, struct fi_info **chosen,
                  struct panta_fabric_error *error) {
    struct fi_info *found = NULL;
    int code = find(options, &found, error);
    if (code)
        return code;
    const struct fi_info *info = found;
    while (info && (info->domain_attr->mr_mode & FI_MR_RAW))
        info = info->next;
    if (!info)
        code = missing(error, "the provider needs keys of many bytes (FI_MR_RAW), "
                              "which Panta does not use");
    else if (!(*chosen = library.dupinfo(info)))
        code = shim_failed(error, "fi_dupinfo", -FI_ENOMEM);
    library.freeinfo(found);
    return code;
}

static uint32_t depth_of(const struct fi_info *info, uint32_t wished) {
    uint64_t depth = wished ? wished : DEPTH_DEFAULT;
    if (info->tx_attr->size && depth > info->tx_attr->size)
        depth = info->tx_attr->size;
    return depth > DEPTH_MOST ? DEPTH_MOST : (uint32_t)depth;
}

int shim_open(const struct panta_fabric_options *options, struct panta_fabric **out,
              struct panta_fabric_error *error) {
    struct panta_fabric *fabric = calloc(1, sizeof *fabric);
    if (!fabric)
        return shim_failed(error, "calloc", -FI_ENOMEM);
    int code = choose(options, &fabric->info, error);
    if (!code) {
        fabric->depth = depth_of(fabric->info, options->depth);
        fabric->operations = calloc(fabric->depth, sizeof *fabric->operations);
        if (!fabric->operations)
            code = shim_failed(error, "calloc", -FI_ENOMEM);
    }
    if (!code) {
        for (uint32_t i = 0; i < fabric->depth; i++)
            fabric->operations[i].next = i + 1 < fabric->depth ? i + 1 : NO_OPERATION;
        struct sigaction kept[SIGNALS];
        keep_handlers(kept);
        code = open_endpoint(fabric, error);
        put_back_handlers(kept);
    }
    if (code) {
        shim_close(fabric);
        return code;
    }
    *out = fabric;
    return 0;
}

void shim_close(struct panta_fabric *fabric) {
    /* The endpoint first: after that nothing is read or written any more, and
     * memory and operations can go. */
    if (fabric->ep)
        fi_close(&fabric->ep->fid);
    while (fabric->memories) {
        struct panta_fabric_memory *memory = fabric->memories;
        fabric->memories = memory->next;
        fi_close(&memory->mr->fid);
        free(memory);
    }
    if (fabric->cq)
        fi_close(&fabric->cq->fid);
    if (fabric->av)
        fi_close(&fabric->av->fid);
    if (fabric->domain)
        fi_close(&fabric->domain->fid);
    if (fabric->fabric)
        fi_close(&fabric->fabric->fid);
    if (fabric->info)
        library.freeinfo(fabric->info);
    free(fabric->operations);
    free(fabric);
}
