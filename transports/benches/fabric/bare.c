/*
 * The bare loop: one fi_read at a time, completions looked for without a pause.
 *
 *   bare PROVIDER NODE FORMAT ADDRESS BASE KEY BYTES DEPTH
 *
 * FORMAT, ADDRESS, BASE and KEY are hexadecimal. For every line on standard
 * input it reads BYTES, in DEPTH reads at once, and prints the nanoseconds.
 */
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void must(int64_t code, const char *what) {
    if (code < 0) {
        fprintf(stderr, "bare: %s: %s\n", what, fi_strerror((int)-code));
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 9)
        return 2;
    const char *node = *arguments[2] ? arguments[2] : NULL;
    size_t bytes = strtoull(arguments[7], NULL, 10);
    size_t depth = strtoull(arguments[8], NULL, 10);
    unsigned char address[256] = {0};
    size_t address_bytes = strlen(arguments[4]) / 2;
    for (size_t i = 0; i < address_bytes && i < sizeof address; i++)
        sscanf(arguments[4] + 2 * i, "%2hhx", &address[i]);
    uint64_t base = strtoull(arguments[5], NULL, 16), key = strtoull(arguments[6], NULL, 16);

    struct fi_info *hints = fi_allocinfo(), *info;
    hints->caps = FI_RMA | FI_READ | FI_REMOTE_READ;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->addr_format = strtoul(arguments[3], NULL, 16);
    hints->domain_attr->mr_mode = FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    hints->fabric_attr->prov_name = strdup(arguments[1]);
    must(fi_getinfo(FI_VERSION(1, 11), node, NULL, node ? FI_SOURCE : 0, hints, &info), "getinfo");
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    struct fid_av *av;
    struct fid_cq *cq;
    struct fid_ep *ep;
    struct fi_av_attr av_attr = {.type = info->domain_attr->av_type};
    struct fi_cq_attr cq_attr = {.format = FI_CQ_FORMAT_CONTEXT, .size = 64};
    must(fi_fabric(info->fabric_attr, &fabric, NULL), "fabric");
    must(fi_domain(fabric, info, &domain, NULL), "domain");
    must(fi_av_open(domain, &av_attr, &av, NULL), "av");
    must(fi_cq_open(domain, &cq_attr, &cq, NULL), "cq");
    must(fi_endpoint(domain, info, &ep, NULL), "endpoint");
    must(fi_ep_bind(ep, &av->fid, 0), "bind");
    must(fi_ep_bind(ep, &cq->fid, FI_TRANSMIT | FI_RECV), "bind");
    must(fi_enable(ep), "enable");
    fi_addr_t peer;
    must(fi_av_insert(av, address, 1, &peer, 0, NULL), "insert");

    char *into = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    memset(into, 1, bytes);
    struct fi_context2 contexts[64];
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        size_t each = bytes / depth, ended = 0, posted = 0;
        while (ended < depth) {
            if (posted < depth) {
                ssize_t code = fi_read(ep, into + posted * each, each, NULL, peer,
                                       base + posted * each, key, &contexts[posted]);
                if (code == 0)
                    posted++;
                else if (code != -FI_EAGAIN)
                    must(code, "read");
            }
            struct fi_cq_entry entries[16];
            ssize_t got = fi_cq_read(cq, entries, 16);
            if (got > 0)
                ended += (size_t)got;
            else if (got != -FI_EAGAIN)
                must(got, "cq");
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        printf("%lld\n", (long long)(to.tv_sec - from.tv_sec) * 1000000000ll + to.tv_nsec - from.tv_nsec);
        fflush(stdout);
    }
    return 0;
}
