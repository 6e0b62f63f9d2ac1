// SPDX-License-Identifier: GPL-2.0-or-later
//
// Looks for the mining pools' protocol in the first bytes that a server sends on a connection.
// Nothing of what is sent leaves the kernel: only which of the words below was found.

#include "kernel.bpf.h"

// Of each connection the first payloads are looked at, and of each its first bytes: that is where
// a miner subscribes or logs in.
#define PAYLOADS 2
#define BYTES 128
// The longest word is looked for from every place before this.
#define PLACES (BYTES - 16)
#define SHORTEST 16

struct heard {
	u64 cgroup;
	u32 word;
	u32 port;
};

// Guarded servers, by cgroup id.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u8);
} guarded SEC(".maps");

// Payloads seen of a connection, by its socket's cookie. The least recently seen make room.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, u32);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} words SEC(".maps");

// include/uapi/linux/bpf.h; the loader knows this one by itself.
struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
};

#define IPV4 0x0008 // ETH_P_IP and ETH_P_IPV6 as they are on the wire, read by a little-endian CPU
#define IPV6 0xdd86
#define TCP 6

#define MINING_SUBSCRIBE 1
#define MINING_AUTHORIZE 2
#define LOGIN 3

// Eight bytes as they are read.
#define WORD(a, b, c, d, e, f, g, h)                                                              \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 |            \
	 (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)

static inline u64 eight(const char *at)
{
	u64 word;

	__builtin_memcpy(&word, at, sizeof(word));
	return word;
}

// Which word stands at this place; 16 bytes from there on can be read.
static inline u32 word_at(const char *at)
{
	u64 first = eight(at);
	u64 second = eight(at + 8);

	if (first == WORD('m', 'i', 'n', 'i', 'n', 'g', '.', 's') &&
	    second == WORD('u', 'b', 's', 'c', 'r', 'i', 'b', 'e'))
		return MINING_SUBSCRIBE;
	if (first == WORD('m', 'i', 'n', 'i', 'n', 'g', '.', 'a') &&
	    second == WORD('u', 't', 'h', 'o', 'r', 'i', 'z', 'e'))
		return MINING_AUTHORIZE;
	if (first == WORD('"', 'm', 'e', 't', 'h', 'o', 'd', '"')) {
		if (second == WORD(':', '"', 'l', 'o', 'g', 'i', 'n', '"'))
			return LOGIN;
		// With a space: its last quotation mark is beyond these.
		if (second == WORD(':', ' ', '"', 'l', 'o', 'g', 'i', 'n'))
			return LOGIN;
	}
	return 0;
}

static inline u64 guarded_server(void *skb)
{
	u64 cgroup = skb_cgroup_id(skb);

	if (map_lookup(&guarded, &cgroup))
		return cgroup;
#pragma unroll
	for (int level = 1; level < DEEPEST; level++) {
		cgroup = skb_ancestor_cgroup_id(skb, level);
		if (!cgroup)
			break;
		if (map_lookup(&guarded, &cgroup))
			return cgroup;
	}
	return 0;
}

// Always lets the packet pass: this only listens.
SEC("cgroup_skb/egress")
int stratum(struct __sk_buff *skb)
{
	u8 header[20];
	u32 transport;

	// IP's header comes first here, whatever the link is.
	if (skb->protocol == IPV4) {
		if (skb_load_bytes(skb, 0, header, 20) || header[9] != TCP)
			return 1;
		transport = (header[0] & 15) * 4;
	} else if (skb->protocol == IPV6) {
		if (skb_load_bytes(skb, 0, header, 8) || header[6] != TCP)
			return 1;
		transport = 40;
	} else {
		return 1;
	}
	if (skb_load_bytes(skb, transport, header, 14))
		return 1;

	u32 port = header[2] << 8 | header[3];
	u32 payload = transport + (header[12] >> 4) * 4;

	if (skb->len < payload + SHORTEST)
		return 1;

	u64 cookie = socket_cookie(skb);
	u32 *seen = map_lookup(&connections, &cookie);

	if (seen) {
		if (*seen >= PAYLOADS)
			return 1;
		*seen += 1;
	} else {
		u32 one = 1;

		map_update(&connections, &cookie, &one, BPF_ANY);
	}

	char bytes[BYTES] = {};
	u64 length = skb->len - payload;

	// Both ends are known already; the kernel's check wants to see them, in this very register.
	asm volatile("" : "+r"(length));
	if (length > BYTES)
		length = BYTES;
	if (length < SHORTEST)
		return 1;
	if (skb_load_bytes(skb, payload, bytes, length))
		return 1;
	// All of these are JSON; HTTP, TLS, ssh and git are not, and cost no search.
	if (bytes[0] != '{' && bytes[0] != '[' && bytes[0] != ' ' && bytes[0] != '\n')
		return 1;

	u32 word = 0;
	u32 wallet = 0;

	for (u32 place = 0; place <= PLACES; place++) {
		u32 here = word_at(bytes + place);

		// Other services have a method "login" too; a wallet to log in with, pools only.
		if (eight(bytes + place) == WORD('"', 'l', 'o', 'g', 'i', 'n', '"', ':'))
			wallet = 1;
		if (here)
			word = here;
		if (word && (word != LOGIN || wallet))
			break;
	}
	if (!word || (word == LOGIN && !wallet))
		return 1;

	u64 cgroup = guarded_server(skb);

	if (!cgroup)
		return 1;

	struct heard *heard = ring_reserve(&words, sizeof(*heard), 0);

	// Full of these already: whoever reads them is busy, and one is enough.
	if (!heard)
		return 1;
	heard->cgroup = cgroup;
	heard->word = word;
	heard->port = port;
	ring_submit(heard, 0);
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
