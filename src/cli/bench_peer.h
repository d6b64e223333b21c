/* SPDX-License-Identifier: Apache-2.0 */
/**
 * \file bench_peer.h
 * \brief Peers of `pega bench`: child processes that measure what others make, beside the library.
 *
 * A peer speaks lines of JSON; docs/benchmark.md has the protocol. Whatever one does, it is left out by name with
 * the reason: no peer ends the run, or lets it wait for longer than its time.
 */
#ifndef PEGA_CLI_BENCH_PEER_H_
#define PEGA_CLI_BENCH_PEER_H_

#include "bench.h"

/**
 * \brief The peers that --peers names, or those of the installation. Nothing is started yet.
 *
 * From then on the process ignores SIGPIPE.
 */
bench_peers *bench_peers_create(const cli_options *options);
/** \brief Ends every peer. Takes NULL. */
void bench_peers_free(bench_peers *peers);

/**
 * \brief Starts those that are not yet, and has those that do the part prepare the case.
 * \param rotating Whether their calls are to go through more memory than caches hold.
 * \param same Inputs that they are judged on, or NULL: those that do not say what they
 *        made of them judge themselves.
 * \param told Members that the request has besides, or NULL.
 */
void bench_peers_prepare(bench_peers *peers, const char *part, json_t *what, bool rotating,
                         const bench_same *same, const json_t *told);
/** \brief Has them drop it. */
void bench_peers_drop(bench_peers *peers);

/**
 * \brief What they prepared, as ways for bench_compare(). Returns how many.
 * \param unit Of the samples wanted: "us", "ns" or "ms".
 * \param limit Ways whose median by BENCH_GRAPH was above it are not among them; 0: all are.
 * \param out Returns owned: end it with bench_peers_ways_end().
 */
int bench_peers_ways(bench_peers *peers, const char *unit, const char *how, double limit,
                     bench_way **out);
void bench_peers_ways_end(bench_peers *peers, bench_way *ways, int num_ways);

/** \brief The document's "peers". Returns owned. */
json_t *bench_peers_report(const bench_peers *peers);

#endif  // PEGA_CLI_BENCH_PEER_H_
