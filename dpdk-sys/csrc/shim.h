/* The interface of DPDK to Rust: the headers that bindgen reads, and a function for each static
 * inline function that Rust calls.
 *
 * Rust has its own definition of struct rte_mbuf, because it changes the fields on the data path.
 * firstack_mbuf_layout returns the C compiler's layout, so that the two can be compared. */
#ifndef FIRSTACK_SHIM_H
#define FIRSTACK_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_hash.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* Macros that bindgen cannot evaluate. */
static const uint64_t FIRSTACK_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t FIRSTACK_RX_CHECKSUMS =
	RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint32_t FIRSTACK_VLAN_STRIPS =
	RTE_ETH_VLAN_STRIP_OFFLOAD | RTE_ETH_QINQ_STRIP_OFFLOAD;
static const uint64_t FIRSTACK_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t FIRSTACK_RSS_IP = RTE_ETH_RSS_IP;
static const uint64_t FIRSTACK_RSS_TCP = RTE_ETH_RSS_TCP;
static const uint64_t FIRSTACK_RSS_UDP = RTE_ETH_RSS_UDP;
static const uint64_t FIRSTACK_RSS_SCTP = RTE_ETH_RSS_SCTP;
static const uint64_t FIRSTACK_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t FIRSTACK_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t FIRSTACK_RSS_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t FIRSTACK_RSS_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t FIRSTACK_RSS_IPV6_TCP_EX = RTE_ETH_RSS_IPV6_TCP_EX;
/* Bit numbers instead of masks: bindgen cannot evaluate a mask with the highest bit set either. */
static const uint32_t FIRSTACK_RSS_L3_SRC_ONLY_BIT = __builtin_ctzll(RTE_ETH_RSS_L3_SRC_ONLY);
static const uint32_t FIRSTACK_RSS_L3_DST_ONLY_BIT = __builtin_ctzll(RTE_ETH_RSS_L3_DST_ONLY);
static const uint64_t FIRSTACK_RX_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t FIRSTACK_MBUF_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t FIRSTACK_MBUF_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t FIRSTACK_MBUF_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t FIRSTACK_MBUF_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t FIRSTACK_MBUF_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint32_t FIRSTACK_PTYPE_L3_IPV4 = RTE_PTYPE_L3_IPV4;
static const uint32_t FIRSTACK_PTYPE_L4_MASK = RTE_PTYPE_L4_MASK;
static const uint32_t FIRSTACK_PTYPE_L4_TCP = RTE_PTYPE_L4_TCP;
static const uint32_t FIRSTACK_PTYPE_TUNNEL_MASK = RTE_PTYPE_TUNNEL_MASK | RTE_PTYPE_INNER_L2_MASK |
	RTE_PTYPE_INNER_L3_MASK | RTE_PTYPE_INNER_L4_MASK;
static const uint16_t FIRSTACK_RETA_GROUP = RTE_ETH_RETA_GROUP_SIZE;
static const uint16_t FIRSTACK_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint32_t FIRSTACK_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE;
static const uint32_t FIRSTACK_MAX_LCORE = RTE_MAX_LCORE;

struct firstack_layout {
	size_t size, align;
	size_t buf_addr, data_off, refcnt, nb_segs, port, ol_flags, packet_type;
	size_t pkt_len, data_len, hash, buf_len, pool, next;
};

struct firstack_link {
	uint32_t megabits_per_second;
	uint8_t up;
	uint8_t full_duplex;
};

/* Returns the C compiler's layout of struct rte_mbuf. */
void firstack_mbuf_layout(struct firstack_layout *layout);

/* Returns the calling thread's rte_errno, a positive errno value. */
int firstack_errno(void);

/* Sends DPDK's log to stderr instead of stdout and syslog. Returns 0, or a negative value on
 * error. */
int firstack_log_to_stderr(void);

/* Calls rte_eth_link_get_nowait. Returns 0, or a negative errno value. */
int firstack_link_get(uint16_t port, struct firstack_link *link);

/* Call rte_eth_rx_burst and rte_eth_tx_burst. Return the number of mbufs, at most count, that were
 * received or accepted for transmission. */
uint16_t firstack_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t firstack_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* Calls rte_pktmbuf_alloc_bulk. Returns 0 and count mbufs, or a negative errno value and none. */
int firstack_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);

/* Calls rte_pktmbuf_free: frees all segments of a frame. NULL is ignored. */
void firstack_free(struct rte_mbuf *mbuf);

/* Calls rte_hash_create with default parameters, on any NUMA node. Returns NULL, and sets
 * rte_errno, on error. */
struct rte_hash *firstack_hash_create(const char *name, uint32_t entries, uint32_t key_len);

/* Returns the CPU's time stamp counter. */
uint64_t firstack_cycles(void);

#endif
