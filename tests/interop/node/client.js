// Interop client: grpc-js. `node client.js PROTO_FOLDER RPC_PROTO_FOLDER ADDRESS CASE`, with NODE_PATH at its packages.
'use strict';
const readline = require('readline');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const protobuf = require('protobufjs');

const [proto, rpcProto, address, name] = process.argv.slice(2);
const OPTIONS = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 };
const KEEPALIVE = { 'grpc.keepalive_time_ms': 10000 };
const DEADLINE_MS = 500;
const REFUSALS = 2000;
// Streams: rows, classes, rows of a block.
const WHOLE = [1000, 100, 64], HALVES = [8, 16, 4];

const { lossd } = grpc.loadPackageDefinition(loader.loadSync('lossd/v1/service.proto',
  { includeDirs: [proto], keepCase: true, longs: Number, enums: String, oneofs: true, arrays: true }));
const client = new lossd.v1.LossService(address, grpc.credentials.createInsecure(),
  name === 'keepalive' ? { ...OPTIONS, ...KEEPALIVE } : OPTIONS);

const bytes = array => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
const floats = data => new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
const logits = (n, c) => Float32Array.from({ length: n * c }, (_, i) => ((i * 7919) % 10007) / 1000 - 5);
const indices = y => ({ dtype: 'DATA_TYPE_INT64', shape: [y.length], data: bytes(BigInt64Array.from(y, BigInt)) });
const targets = (n, c) => indices(Array.from({ length: n }, (_, i) => (i * 31) % c));
const rows = (x, n, c) => ({ dtype: 'DATA_TYPE_FLOAT32', shape: [n, c], data: bytes(x) });

function request(n, c, input = rows(logits(n, c), n, c)) {
  return { input, target: targets(n, c), gradients: ['GRADIENT_INPUT'] };
}

// Open, the blocks, End.
function streamed(n, c, items) {
  const x = logits(n, c);
  const messages = [{ open: { evaluation_id: 1,
    cross_entropy: request(n, c, { dtype: 'DATA_TYPE_FLOAT32', shape: [n, c], streamed: {} }) } }];
  for (let first = 0; first < n; first += items) {
    const k = Math.min(items, n - first);
    const input = rows(x.subarray(first * c, (first + k) * c), k, c);
    messages.push({ block: { evaluation_id: 1, first_item: first, input } });
  }
  return [...messages, { end: { evaluation_id: 1 } }];
}

// The loss, and the gradient as one number that changes with every entry's value and place.
function told(answer, gradient = floats(answer.input_gradient.data)) {
  const weighted = gradient.reduce((sum, g, i) => sum + Math.abs(g) * (1 + i % 97), 0);
  return { loss: floats(answer.loss.data)[0], gradient: weighted };
}

function call(message, metadata = new grpc.Metadata()) {
  return new Promise((resolve, reject) =>
    client.CrossEntropy(message, metadata, (error, answer) => error ? reject(error) : resolve(answer)));
}

function details(error) {
  const rpc = new protobuf.Root();
  rpc.resolvePath = (_, target) => `${rpcProto}/${target}`;
  rpc.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto'], { keepCase: true });
  const [packed] = error.metadata.get('grpc-status-details-bin');
  const found = {};
  for (const { type_url: url, value } of rpc.lookupType('google.rpc.Status').decode(packed).details) {
    const type = url.split('/').pop();
    found[type] = rpc.lookupType(type).decode(value);
  }
  return found;
}

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Tells the test that this point is reached, and waits until it says to go on.
async function pause() {
  console.log('paused');
  await lines.next();
}

// A stream: its blocks and its result as they come, and its status code at the end.
class Evaluation {
  constructor(messages, options = {}) {
    this.messages = messages;
    this.blocks = [];
    this.call = client.Stream(options);
    this.first = new Promise(resolve => this.call.on('data', answer => {
      if (answer.block) this.blocks.push(answer.block);
      else this.result = answer.result;
      resolve();
    }));
    this.call.on('error', () => {}); // its code comes with the status
    this.code = new Promise(resolve => this.call.on('status', status => resolve(status.code)));
  }

  async send(from, to) {
    for (const message of this.messages.slice(from, to)) {
      if (!this.call.write(message)) await new Promise(resolve => this.call.once('drain', resolve));
    }
  }

  async finish(from) {
    await this.send(from);
    this.call.end();
    const code = await this.code;
    const gradient = Float32Array.from(this.blocks.flatMap(block => [...floats(block.input_gradient.data)]));
    return { ...told(this.result.cross_entropy, gradient), blocks: this.blocks.length, code };
  }
}

// Stands still after its first block was answered.
async function halves(options) {
  const evaluation = new Evaluation(streamed(...HALVES), options);
  await evaluation.send(0, 2);
  await Promise.race([evaluation.first, evaluation.code]);
  return evaluation;
}

const CASES = {
  unary: async () => told(await call(request(4, 5))),

  stream: () => new Evaluation(streamed(...WHOLE)).finish(0),

  async error() {
    const error = await call({ ...request(4, 5), target: indices([0, 9, 0, 0]) }).then(() => null, refused => refused);
    const found = details(error);
    const { reason, domain } = found['google.rpc.ErrorInfo'];
    const fields = found['google.rpc.BadRequest'].field_violations.map(one => one.field);
    return { code: error.code, reason, domain, fields };
  },

  async deadline() {
    const evaluation = await halves({ deadline: Date.now() + DEADLINE_MS });
    return { code: await evaluation.code };
  },

  async cancel() {
    const evaluation = await halves();
    evaluation.call.cancel();
    return { code: await evaluation.code, ...await CASES.unary() };
  },

  large: async () => told(await call(request(4096, 1024))),

  async many() {
    const one = request(8, 16);
    const answers = (await Promise.all(Array.from({ length: 1000 }, () => call(one)))).map(answer => told(answer));
    const same = answers.every(answer => JSON.stringify(answer) === JSON.stringify(answers[0]));
    return { ...answers[0], calls: answers.length, same };
  },

  async refusals() {
    const large = request(200, 128);
    const codes = new Set();
    for (let i = 0; i < REFUSALS; i++) codes.add(await call(large).then(() => 0, error => error.code));
    const [code] = codes.size === 1 ? codes : [NaN];
    return { code, ...await CASES.unary() };
  },

  async keepalive() {
    const evaluation = await halves();
    await pause();
    return evaluation.finish(2);
  },

  async drain() {
    const evaluation = await halves();
    await pause();
    const finished = await evaluation.finish(2);
    const refused = await call(request(4, 5)).then(() => 0, error => error.code);
    await pause();
    const waiting = new grpc.Metadata({ waitForReady: true });
    const again = told(await call(request(4, 5), waiting));
    return { ...finished, refused, again: again.loss };
  },
};

CASES[name]().then(said => {
  console.log(JSON.stringify(said));
  process.exit(0); // what is left are the connection and stdin
}, error => {
  console.error(error);
  process.exit(1);
});
