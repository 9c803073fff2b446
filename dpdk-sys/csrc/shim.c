#include "shim.h"

#include <stdio.h>

#include <rte_cycles.h>

void firstack_mbuf_layout(struct firstack_layout *layout)
{
	*layout = (struct firstack_layout){
		.size = sizeof(struct rte_mbuf),
		.align = _Alignof(struct rte_mbuf),
		.buf_addr = offsetof(struct rte_mbuf, buf_addr),
		.data_off = offsetof(struct rte_mbuf, data_off),
		.refcnt = offsetof(struct rte_mbuf, refcnt),
		.nb_segs = offsetof(struct rte_mbuf, nb_segs),
		.port = offsetof(struct rte_mbuf, port),
		.ol_flags = offsetof(struct rte_mbuf, ol_flags),
		.packet_type = offsetof(struct rte_mbuf, packet_type),
		.pkt_len = offsetof(struct rte_mbuf, pkt_len),
		.data_len = offsetof(struct rte_mbuf, data_len),
		.hash = offsetof(struct rte_mbuf, hash),
		.buf_len = offsetof(struct rte_mbuf, buf_len),
		.pool = offsetof(struct rte_mbuf, pool),
		.next = offsetof(struct rte_mbuf, next),
	};
}

int firstack_errno(void)
{
	return rte_errno;
}

int firstack_log_to_stderr(void)
{
	return rte_openlog_stream(stderr);
}

int firstack_link_get(uint16_t port, struct firstack_link *link)
{
	struct rte_eth_link seen = {0};
	int status = rte_eth_link_get_nowait(port, &seen);

	link->megabits_per_second = seen.link_speed;
	link->up = seen.link_status == RTE_ETH_LINK_UP;
	link->full_duplex = seen.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return status;
}

uint16_t firstack_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t firstack_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

int firstack_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void firstack_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

struct rte_hash *firstack_hash_create(const char *name, uint32_t entries, uint32_t key_len)
{
	const struct rte_hash_parameters parameters = {
		.name = name,
		.entries = entries,
		.key_len = key_len,
		.socket_id = SOCKET_ID_ANY,
	};

	return rte_hash_create(&parameters);
}

uint64_t firstack_cycles(void)
{
	return rte_get_tsc_cycles();
}
