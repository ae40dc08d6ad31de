/*
 * What an address is, as rpc_channel_new and rpc_server_listen take it.
 */
#pragma once

/**
 * 1 if ADDRESS is of this machine alone: a unix path, or a host all of whose addresses are loopback; 0 if others can come there; -EINVAL,
 * -ENAMETOOLONG, or -EADDRNOTAVAIL for an unknown name. May ask a name server.
 */
int rpc_address_is_local(const char *address);
