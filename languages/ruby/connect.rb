# frozen_string_literal: true

# Where a server is, and who asks: TLS, a certificate of the client's own, a token.

require "grpc"
require "lossd/v1/service_services_pb"

module Lossd
  # A token in a file, as secrets are mounted. An ArgumentError names a file that holds none, and not what it holds.
  class MountedToken
    ONE_TOKEN = %r{\A\s*([A-Za-z0-9._~+/-]+=*)\s*\z}.freeze # RFC 6750, 2.1
    MOST_BYTES = 16_384 # more is no token: a header would not take it

    def initialize(path)
      @path = path
      @last = read
    end

    # As the file has it now. To ask whether that has changed would be wrong where it does twice within the clock's tick.
    def now
      @last = read
    rescue ArgumentError # it was read before: whoever replaces the file may leave it empty, or away, for a moment
      @last
    end

    private

    def read
      content = File.binread(@path, MOST_BYTES + 1).to_s # nil where it is empty
      raise ArgumentError, "token_file = #{@path} is empty" if content.match?(/\A\s*\z/)

      token = content[ONE_TOKEN, 1] if content.bytesize <= MOST_BYTES
      token || raise(ArgumentError, "token_file = #{@path} holds something else than one token")
    rescue SystemCallError => e
      raise ArgumentError, "token_file = #{@path} cannot be read: #{e.message}"
    end
  end

  # A stub that shows a token with every call, of a plain connection too: gRPC's own way is for TLS alone. token: is called for
  # it; nil where there is none.
  class Caller < V1::LossService::Stub
    def initialize(address, credentials, token: nil, **options)
      super(address, credentials, **options)
      @token = token
    end

    def request_response(*call, metadata: {}, **options)
      super(*call, metadata: metadata.merge(shown), **options)
    end

    def bidi_streamer(*call, metadata: {}, **options, &block)
      super(*call, metadata: metadata.merge(shown), **options, &block)
    end

    private

    def shown
      @token ? { "authorization" => "Bearer #{@token.call}" } : {}
    end
  end

  # On this host for certain.
  LOCAL = /\A(unix:|localhost:|127\.|\[::1\]:)/.freeze

  module_function

  # A stub. ca: the authorities that may have signed the server's certificate; cert, key: the client's own; files, PEM. token:
  # shown with every call; token_file: in its place, the file that holds it, read for every call, so that it may be replaced.
  # What is not given is LOSSD_CA, LOSSD_CERT and LOSSD_KEY, and, where both are not, LOSSD_TOKEN or LOSSD_TOKEN_FILE. tls: true
  # where there is a ca or a cert. An ArgumentError names what does not fit together.
  #
  # Every gRPC library refuses answers above 4 MiB unless told otherwise; gradients are as large as their tensors.
  def connect(address, tls: false, ca: nil, cert: nil, key: nil, token: nil, token_file: nil, timeout: 60)
    unless address.start_with?("unix:") # a Unix socket has no TLS
      ca, cert, key = ca || named("LOSSD_CA"), cert || named("LOSSD_CERT"), key || named("LOSSD_KEY")
    end
    token, token_file = named("LOSSD_TOKEN"), named("LOSSD_TOKEN_FILE") if token.nil? && token_file.nil?
    raise ArgumentError, "give token or token_file (LOSSD_TOKEN or LOSSD_TOKEN_FILE), not both" if token && token_file
    raise ArgumentError, "cert and key go together: give both" if cert.nil? != key.nil?

    secure = tls || !ca.nil? || !cert.nil?
    if (token || token_file) && !secure && !LOCAL.match?(address)
      raise ArgumentError, "a token goes to #{address} by TLS only: give tls: true, or ca"
    end

    credentials = :this_channel_is_insecure
    credentials = GRPC::Core::ChannelCredentials.new(pem(:ca, ca), pem(:key, key), pem(:cert, cert)) if secure
    shown = token_file ? MountedToken.new(token_file).method(:now) : token && -> { token }
    Caller.new(
      address, credentials, token: shown, timeout: timeout, channel_args: {
        "grpc.max_receive_message_length" => -1,
        "grpc.enable_retries" => 0, # `call` repeats: it sees what the server asks to wait
        "grpc.initial_reconnect_backoff_ms" => 100, "grpc.max_reconnect_backoff_ms" => 2000
      }
    )
  end

  # Of the environment; nil where it is empty.
  def named(variable)
    found = ENV.fetch(variable, "")
    found unless found.empty?
  end

  def pem(name, path)
    return if path.nil?

    File.read(path).tap { |content| raise ArgumentError, "#{name} = #{path} is not PEM" unless content.include?("-----BEGIN ") }
  rescue SystemCallError => e
    raise ArgumentError, "#{name} = #{path} cannot be read: #{e.message}"
  end

  # What to give, where gRPC's words or the server's reason tell it: the end of a sentence.
  def advice(words, reason)
    case reason
    when "NO_CREDENTIALS" then return ": give token or token_file (LOSSD_TOKEN, LOSSD_TOKEN_FILE), or cert and key"
    when "UNKNOWN_TOKEN"
      return ": does token or token_file (LOSSD_TOKEN, LOSSD_TOKEN_FILE) hold what `lossd token` printed?"
    end
    case words
    when /certificate verify failed/ then ": give ca (LOSSD_CA), the authority that signed the server's certificate"
    when /wrong version number/ then ": the server has no TLS, give neither tls, ca nor cert"
    when /is not in peer certificate/ then ": the server's certificate is for another host, use a name that it has"
    when /Socket closed|reset by peer/ then ": does the server want TLS (ca, tls), or a certificate (cert and key)?"
    else ""
    end
  end
end
