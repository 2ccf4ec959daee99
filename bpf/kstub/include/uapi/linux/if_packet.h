/* The system's own; this folder is searched first. */
#include_next <linux/if_packet.h>
