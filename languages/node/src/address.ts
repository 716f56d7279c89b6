/** Where a server is, and who is asking. */

import { readFileSync } from "node:fs";

import { type ChannelCredentials, type ChannelOptions, credentials } from "@grpc/grpc-js";

import { InvalidArgument, shown } from "./errors.js";

const DEFAULT_PORT = 50051;
const FORMS = `host:port, host (port ${DEFAULT_PORT}), [IPv6]:port, dns:///name:port or unix:path`;
const HOST = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?)(?::([0-9]{1,5}))?$/;
// A pair with the server's, whose least accepted interval must not be longer, or it answers GOAWAY too_many_pings.
const KEEPALIVE_MS = 60_000;
const KEEPALIVE_TIMEOUT_MS = 20_000;
// Node's default of 64 KiB makes a large answer wait for its window again and again.
const RECEIVE_WINDOW_BYTES = 4 << 20;

/**
 * What is left out is LOSSD_CA, LOSSD_CERT, LOSSD_KEY, which name files, and LOSSD_TOKEN or LOSSD_TOKEN_FILE: a `token` or a
 * `tokenFile` stands before both.
 */
export interface Identity {
  /** true where a `ca` or a `cert` is given; false for a plain connection in spite of the environment. */
  tls?: boolean | undefined;
  /** The authorities to trust instead of the system's, PEM. */
  ca?: string | Uint8Array | undefined;
  /** This client's certificate and its key, PEM. */
  cert?: string | Uint8Array | undefined;
  key?: string | Uint8Array | undefined;
  /** Sent as `authorization: Bearer …`; without TLS only to loopback and Unix sockets. */
  token?: string | undefined;
  /** In its place, the path of the file that holds it: read at once, and again for each call, so that it may be replaced. */
  tokenFile?: string | undefined;
}

/** The address as gRPC takes it, or InvalidArgument. */
export function checkedAddress(address: unknown): string {
  if (typeof address !== "string") throw refused(address, "is not text");
  if (address.startsWith("unix:")) {
    const path = address.replace(/^unix:(\/\/(?=\/))?/, "");
    if (path === "" || path.includes("\0")) throw refused(address, "names no path");
    return `unix:${path}`;
  }
  const name = address.replace(/^dns:\/\/\//, "");
  const match = HOST.exec(name);
  if (match === null) throw refused(address, "is none of these");
  const port = match[2] === undefined ? DEFAULT_PORT : Number(match[2]);
  if (port < 1 || port > 65535) throw refused(address, "has a port that is not between 1 and 65535");
  return `${name === address ? "" : "dns:///"}${match[1]!}:${port}`;
}

function refused(address: unknown, what: string): InvalidArgument {
  return new InvalidArgument(`address = ${shown(address)} ${what}. An address is ${FORMS}`, {
    field: "address",
    reason: "MALFORMED_ADDRESS",
    metadata: { value: shown(address) },
  });
}

/** Whether the address is on this host for certain, so that no proxy may come between. */
function isLocal(address: string): boolean {
  return address.startsWith("unix:") || /^(dns:\/\/\/)?(localhost|127(\.\d+){3}|\[::1\]):/i.test(address);
}

/** With what the environment names. A Unix socket, and `tls: false`, have no use for files. */
export function withEnvironment(address: string, identity: Identity): Identity {
  const isPlain = identity.tls === false || address.startsWith("unix:");
  const file = (name: "ca" | "cert" | "key"): string | Uint8Array | undefined => {
    const variable = `LOSSD_${name.toUpperCase()}`;
    const path = process.env[variable];
    if (identity[name] !== undefined || isPlain || !path) return identity[name];
    try {
      return readFileSync(path);
    } catch (error) {
      throw new InvalidArgument(`${variable} = ${shown(path)} cannot be read: ${(error as Error).message}`, {
        field: name,
        reason: "UNREADABLE_FILE",
      });
    }
  };
  const [ca, cert, key] = [file("ca"), file("cert"), file("key")];
  const tls = identity.tls ?? (ca ?? cert) !== undefined;
  let [token, tokenFile] = [identity.token ?? undefined, identity.tokenFile ?? undefined];
  if (token === undefined && tokenFile === undefined) {
    token = process.env["LOSSD_TOKEN"] || undefined;
    tokenFile = process.env["LOSSD_TOKEN_FILE"] || undefined;
  }
  return { tls, ca, cert, key, token, tokenFile };
}

/** TLS where it is asked for; InvalidArgument where a token would go over the network in the clear. */
export function channelCredentials(address: string, identity: Identity): ChannelCredentials {
  const { tls, ca, cert, key, token, tokenFile } = identity;
  if (!tls && (ca ?? cert ?? key) !== undefined) {
    throw new InvalidArgument("tls is false, and ca, cert or key are given: they are for TLS", {
      field: "tls",
      reason: "CONTRADICTION",
    });
  }
  if ((cert === undefined) !== (key === undefined)) {
    throw new InvalidArgument("cert and key belong together: give both", {
      field: cert === undefined ? "cert" : "key",
      reason: "MISSING_FIELD",
    });
  }
  if (token !== undefined && !/^[!-~]+$/.test(token)) {
    throw new InvalidArgument("token must be of visible ASCII characters", { field: "token", reason: "WRONG_TYPE" });
  }
  if (tokenFile !== undefined && (typeof tokenFile !== "string" || tokenFile === "")) {
    throw new InvalidArgument("tokenFile must be a path", { field: "token_file", reason: "WRONG_TYPE" });
  }
  if (token !== undefined && tokenFile !== undefined) {
    throw new InvalidArgument("give token or tokenFile (LOSSD_TOKEN or LOSSD_TOKEN_FILE), not both", {
      field: "token_file",
      reason: "CONTRADICTION",
    });
  }
  if ((token ?? tokenFile) !== undefined && !tls && !isLocal(address)) {
    throw new InvalidArgument(`a token goes to ${address} by TLS only: give a ca, or tls: true`, {
      field: token === undefined ? "token_file" : "token",
      reason: "TOKEN_WITHOUT_TLS",
    });
  }
  if (!tls) return credentials.createInsecure();
  const [roots, privateKey, chain] = [ca, key, cert].map((pem) =>
    pem === undefined ? null : Buffer.from(pem as string),
  );
  return credentials.createSsl(roots, privateKey, chain);
}

export function channelOptions(address: string, maxResponseBytes: number): ChannelOptions {
  return {
    // Requests are measured against the server's limit before they are sent.
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": maxResponseBytes,
    // We repeat ourselves.
    "grpc.enable_retries": 0,
    "grpc.use_local_subchannel_pool": 1,
    "grpc.keepalive_time_ms": KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    // How fast a lost connection is tried again. gRPC's own end of 120 s would outlive every deadline.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc-node.flow_control_window": RECEIVE_WINDOW_BYTES,
    ...(isLocal(address) ? { "grpc.enable_http_proxy": 0 } : {}),
    ...(address.startsWith("dns:") ? { "grpc.service_config": '{"loadBalancingConfig":[{"round_robin":{}}]}' } : {}),
  };
}
