// SPDX-License-Identifier: GPL-2.0-or-later
//
// Looks for the mining pools' protocol in the first bytes that a server sends on a connection that
// it opened itself, to another host, before it received anything there. What it sends on any other
// connection may be another's text: an echo service repeats what its clients send. Nothing of what
// is sent leaves the kernel: only which of the words below was found.

#include "kernel.bpf.h"

// Of each such connection the first payloads are looked at, and of each its first bytes: that is
// where a miner subscribes or logs in.
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

// A connection that its socket opened.
struct opened {
	// Payloads that it has sent.
	u32 payloads;
};

// Kept with the socket, so that no flood of connections makes room for itself here, and that a
// socket which was there before this program has none: how that one began is not known.
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct opened);
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
	u32 vlan[3];
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
	u32 tc_index;
	u32 cb[5];
	u32 hash;
	u32 tc_classid;
	u32 data;
	u32 data_end;
	u32 napi_id;
	u32 addresses[12];
	u32 data_meta;
	u64 flow_keys;
	u64 tstamp;
	u32 wire_len;
	u32 gso_segs;
	void *sk;
};

// The same file; of a TCP socket.
struct bpf_tcp_sock {
	u32 others[20];
	u64 bytes_received;
};

// Loopback's index in every network namespace (include/net/flow.h, LOOPBACK_IFINDEX). Packets to
// any of the node's own addresses leave by it.
#define LOOPBACK 1

#define IPV4 0x0008 // ETH_P_IP and ETH_P_IPV6 as they are on the wire, read by a little-endian CPU
#define IPV6 0xdd86
#define TCP 6
// Bytes and bits of a TCP header (RFC 9293), and an option that may stand behind it (RFC 8684).
#define HEADER 20
#define FLAGS 13
#define SYN 0x02
#define ACK 0x10
#define OPTIONS 40
#define MPTCP 30
#define MP_JOIN 1

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

// Whether a first packet asks to join a connection that is there already (RFC 8684, section 3.2): who
// opened that one, and what came by it, is not known here.
static inline int joins_another(struct __sk_buff *skb, u32 at, u32 end)
{
	for (int number = 0; number < OPTIONS; number++) {
		u8 option[3];

		// What is shorter than this, at the very end, is none that is asked for.
		if (at + sizeof(option) > end || skb_load_bytes(skb, at, option, sizeof(option)))
			break;
		if (option[0] == 0)
			break;
		if (option[0] == 1) {
			at += 1;
			continue;
		}
		if (option[0] == MPTCP && option[2] >> 4 == MP_JOIN)
			return 1;
		if (option[1] < 2)
			break;
		at += option[1];
	}
	return 0;
}

// Always lets the packet pass: this only listens.
SEC("cgroup_skb/egress")
int stratum(struct __sk_buff *skb)
{
	u8 header[20];
	u32 transport;

	if (skb->ifindex == LOOPBACK)
		return 1;
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
	if (skb_load_bytes(skb, transport, header, HEADER))
		return 1;

	void *socket = skb->sk;

	if (!socket)
		return 1;
	socket = full_socket(socket);
	if (!socket)
		return 1;

	u32 port = header[2] << 8 | header[3];
	u32 payload = transport + (header[12] >> 4) * 4;
	struct opened *opened;

	if ((header[FLAGS] & (SYN | ACK)) == SYN) {
		if (joins_another(skb, transport + HEADER, payload))
			return 1;
		opened = socket_storage(&connections, socket, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!opened)
			return 1;
		// A socket may be used for one connection after another (AF_UNSPEC in connect(2)).
		opened->payloads = 0;
	} else {
		opened = socket_storage(&connections, socket, 0, 0);
		if (!opened)
			return 1;
	}
	if (skb->len < payload + SHORTEST)
		return 1;
	if (opened->payloads >= PAYLOADS)
		return 1;
	opened->payloads += 1;

	// What follows upon another's words may repeat them. A miner is the first to speak.
	struct bpf_tcp_sock *tcp = tcp_socket(socket);

	if (!tcp || tcp->bytes_received)
		return 1;

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
