/** What a server says of itself. */

import type { GetServerInfoResponse, Statistics, WireLimits } from "./contract.js";
import { dtypeName } from "./tensor.js";

/** dtypes: those of an input. losses: the RPCs that are answered. backends: the one in use first. Sizes are of messages. */
export interface ServerInfo extends Omit<GetServerInfoResponse, "dtypes" | "limits" | "statistics"> {
  readonly dtypes: readonly string[];
  readonly limits: Readonly<WireLimits>;
  readonly statistics: Readonly<Statistics>;
}

export function serverInfo(message: GetServerInfoResponse): ServerInfo {
  const { limits, statistics } = message;
  // A server that says nothing of its workers is one; a newer one may know dtypes that have no name here.
  return {
    ...message,
    workers: message.workers || 1,
    dtypes: message.dtypes.map(dtypeName),
    limits: limits!,
    statistics: statistics!,
  };
}
