/** Connection: an attempt of a call, the start of a stream, and what their failures mean. */

import {
  type Call,
  Client as GrpcClient,
  type ClientDuplexStream,
  connectivityState,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";

import { channelCredentials, channelOptions, type Identity } from "./address.js";
import { GetServerInfoRequest, GetServerInfoResponse, SERVICE } from "./contract.js";
import {
  CLIENT_CLOSED,
  DeadlineExceeded,
  fromCall,
  InternalError,
  LossdError,
  NotServed,
  Unavailable,
} from "./errors.js";
import { Malformed } from "./reader.js";
import { Retry, sleep, within } from "./retry.js";
import { authorization } from "./token.js";
import type { Message } from "./wire.js";

export interface Settings extends Identity {
  readonly connectTimeoutMs: number;
  readonly maxResponseBytes: number;
}

const AS_IS = (body: Buffer): Buffer => body;

export class Connection {
  readonly #grpc: GrpcClient;
  readonly #authorization: () => string | undefined;
  readonly #calls = new Set<Call>();
  #info: GetServerInfoResponse | undefined;
  #cause: string | undefined; // why the last attempt to connect failed
  #reaching: Promise<true> | undefined;
  #isReached = false;
  #closed = false;

  constructor(
    readonly address: string,
    readonly settings: Settings,
  ) {
    const credentials = channelCredentials(address, settings);
    this.#authorization = authorization(settings);
    this.#grpc = new GrpcClient(address, credentials, channelOptions(address, settings.maxResponseBytes));
  }

  /** Resolves once a server has ever answered this client: calls wait for that, which has a time of its own. */
  async reached(retry: Retry, signal: AbortSignal | undefined): Promise<void> {
    if (this.#isReached) return;
    signal?.throwIfAborted();
    if (this.#reaching === undefined) {
      this.#reaching = this.#firstAnswer().finally(() => (this.#reaching = undefined));
      this.#reaching.catch(() => undefined); // whoever waits hears of it, and nobody may wait any more
    }
    if ((await within(this.#reaching, retry.remainingMs(), signal)) === undefined) {
      throw this.#unreachable(this.#cause ?? "NOT_CONNECTED");
    }
  }

  /** The answer to a request, however often it must be sent. Raises LossdError, or the signal's reason. */
  async ask(rpc: string, body: Buffer, retry: Retry, signal: AbortSignal | undefined): Promise<Buffer> {
    await this.reached(retry, signal);
    for (;;) {
      let error;
      try {
        return await this.#attempt(rpc, body, retry.remainingMs(), signal);
      } catch (failure) {
        if (!(failure instanceof LossdError)) throw failure;
        error = failure;
      }
      await sleep(retry.waitMs(error), signal);
    }
  }

  /** What the server takes: asked once, and again after the connection was lost. */
  async info(retry: Retry, signal?: AbortSignal): Promise<GetServerInfoResponse> {
    return (this.#info ??= await this.freshInfo(retry, signal));
  }

  async freshInfo(retry: Retry, signal?: AbortSignal): Promise<GetServerInfoResponse> {
    return read(GetServerInfoResponse, await this.ask("GetServerInfo", GetServerInfoRequest.encode({}), retry, signal));
  }

  /** A Stream call; its errors are for `explain`. */
  stream(deadlineMs: number | undefined): ClientDuplexStream<Buffer, Buffer> {
    if (this.#closed) throw closed();
    const options = deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs };
    return this.#track(this.#grpc.makeBidiStreamRequest(`${SERVICE}Stream`, AS_IS, AS_IS, this.#metadata(), options));
  }

  /** What a failure of a call means, by what this client knows of itself and of its connection. */
  explain(failure: ServiceError): LossdError {
    if (this.#closed) return closed();
    let error = fromCall(failure, this.address);
    if (error instanceof DeadlineExceeded && error.onTheWay && !this.#isReady()) {
      error = this.#unreachable(this.#cause ?? "NOT_CONNECTED", failure);
    } else if (error.onTheWay && (error instanceof Unavailable || error instanceof NotServed)) {
      this.#cause = CAUSES.find(([words]) => words.test(failure.details))?.[1];
      if (this.#cause === CLOSED) this.#cause = this.#closedBecause();
      if (this.#cause !== undefined) error = this.#unreachable(this.#cause, failure);
    } else {
      this.#isReached = true;
    }
    // Another server may answer next, with limits of its own.
    if (error instanceof Unavailable) this.#info = undefined;
    return error;
  }

  /** Ends its calls. A second time does nothing. */
  close(): void {
    this.#closed = true;
    for (const call of this.#calls) call.cancel();
    this.#grpc.close();
  }

  async #firstAnswer(): Promise<true> {
    const retry = new Retry(this.settings.connectTimeoutMs, true);
    while (!this.#isReached) {
      try {
        await this.#attempt("GetServerInfo", GetServerInfoRequest.encode({}), retry.remainingMs(), undefined);
      } catch (error) {
        if (!this.#isReached) await sleep(retry.waitMs(error as LossdError));
      }
    }
    return true;
  }

  #attempt(rpc: string, body: Buffer, timeoutMs: number, signal: AbortSignal | undefined): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw closed();
      signal?.throwIfAborted();
      const stop = (): void => {
        call.cancel();
        reject(signal!.reason as Error);
      };
      const metadata = this.#metadata();
      metadata.set("lossd-request-bytes", String(body.length));
      const call = this.#track(
        this.#grpc.makeUnaryRequest<Buffer, Buffer>(
          SERVICE + rpc,
          AS_IS,
          AS_IS,
          body,
          metadata,
          { deadline: Date.now() + timeoutMs },
          (failure, answer) => {
            signal?.removeEventListener("abort", stop);
            if (failure !== null) {
              reject(this.explain(failure));
            } else {
              this.#isReached = true;
              resolve(answer!);
            }
          },
        ),
      );
      signal?.addEventListener("abort", stop, { once: true });
    });
  }

  #metadata(): Metadata {
    const metadata = new Metadata();
    metadata.set("lossd-max-response-bytes", String(this.settings.maxResponseBytes));
    const shown = this.#authorization();
    if (shown !== undefined) metadata.set("authorization", shown);
    return metadata;
  }

  #track<C extends Call>(call: C): C {
    this.#calls.add(call);
    call.on("status", () => this.#calls.delete(call));
    return call;
  }

  #isReady(): boolean {
    return this.#grpc.getChannel().getConnectivityState(false) === connectivityState.READY;
  }

  /** Of a connection that a server ended at its beginning, as one does that wants a certificate, or TLS. */
  #closedBecause(): string {
    if (this.settings.tls !== true) return "NOT_A_SERVER";
    return this.settings.cert === undefined ? "CERTIFICATE_WANTED" : "CERTIFICATE_NOT_TAKEN";
  }

  #unreachable(reason: string, cause?: ServiceError): Unavailable {
    return new Unavailable(SENTENCES[reason]!(this.address), {
      reason,
      metadata: { address: this.address },
      onTheWay: true,
      cause,
    });
  }
}

/** The message that the server sent. Raises InternalError where it is none. */
export function read<T extends object>(message: Message<T>, body: Uint8Array): T {
  try {
    return message.decode(body);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new InternalError(`the answer of ${body.length} bytes is malformed: ${error.message}`, {
      reason: "MALFORMED_ANSWER",
    });
  }
}

export function closed(): Unavailable {
  return new Unavailable("this client is closed", { reason: CLIENT_CLOSED });
}

const CLOSED = "CLOSED";
// What gRPC says → the reason. The words are not promised to stay: what is not known here keeps the general sentence.
const CAUSES: readonly (readonly [RegExp, string])[] = [
  [/ENOTFOUND|EAI_AGAIN|Name resolution failed/, "NAME_NOT_FOUND"],
  [/ENOENT/, "NO_SOCKET"],
  [/EACCES/, "NOT_PERMITTED"],
  [/ECONNREFUSED/, "NOTHING_LISTENS"],
  [/EHOSTUNREACH|ENETUNREACH/, "NO_ROUTE"],
  [/ETIMEDOUT/, "NOT_CONNECTED"],
  [/wrong version number|packet length too long/, "NO_TLS_THERE"],
  [/certificate has expired|certificate is not yet valid|CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/, "CERTIFICATE_OUT_OF_DATE"],
  [/ALTNAME/, "NOT_THAT_HOST"],
  [/certificate/, "UNKNOWN_AUTHORITY"],
  [/Received HTTP status|[Pp]rotocol error/, "NOT_A_SERVER"],
  [/Last error: Failed to connect|ECONNRESET|socket disconnected|SSL alert/, CLOSED],
];
const SENTENCES: Readonly<Record<string, (address: string) => string>> = {
  NOTHING_LISTENS: (address) => `nothing listens at ${address}; \`lossd serve\` starts a server`,
  NO_SOCKET: (address) =>
    `there is no socket ${address.replace("unix:", "")}; \`lossd serve --listen ${address}\` starts a server`,
  NOT_PERMITTED: (address) => `this user may not connect to ${address}: whoever started the server may`,
  NAME_NOT_FOUND: (address) =>
    `the host name of ${address} is not found: is it spelled as the server's host is called?`,
  NOT_A_SERVER: (address) =>
    `${address} can be connected to, but it does not answer as a gRPC server: is it lossd's port, and does it want TLS (tls, or a ca)?`,
  NO_TLS_THERE: (address) =>
    `${address} does not answer in TLS: a server without it wants neither tls, ca nor cert (nor LOSSD_CA, LOSSD_CERT)`,
  UNKNOWN_AUTHORITY: (address) =>
    `the certificate of ${address} is not signed by an authority that this client knows: give the ca that signed it`,
  CERTIFICATE_OUT_OF_DATE: (address) =>
    `the certificate of ${address} has expired, or is not valid yet: whoever runs the server renews it`,
  NOT_THAT_HOST: (address) => `the certificate of ${address} is for another host: use a name that it has`,
  CERTIFICATE_WANTED: (address) =>
    `${address} ended the TLS handshake. It seems to want a certificate from its clients: give cert and key`,
  CERTIFICATE_NOT_TAKEN: (address) =>
    `${address} ended the TLS handshake. It seems not to take this client's certificate: is cert within its dates, and signed by an authority that the server knows?`,
  NOT_CONNECTED: (address) => `${address} does not answer: no connection in time. Is its host up, its port open?`,
  NO_ROUTE: (address) => `there is no route from this host to ${address}`,
};
