# frozen_string_literal: true

# Where a server is, and who asks: TLS, a certificate of the client's own, a token.

require "grpc"
require "lossd/v1/service_services_pb"

module Lossd
  # A stub that shows a token with every call, of a plain connection too: gRPC's own way is for TLS alone.
  class Caller < V1::LossService::Stub
    def initialize(address, credentials, token: nil, **options)
      super(address, credentials, **options)
      @shown = token ? { "authorization" => "Bearer #{token}" } : {}
    end

    def request_response(*call, metadata: {}, **options)
      super(*call, metadata: metadata.merge(@shown), **options)
    end

    def bidi_streamer(*call, metadata: {}, **options, &block)
      super(*call, metadata: metadata.merge(@shown), **options, &block)
    end
  end

  # On this host for certain.
  LOCAL = /\A(unix:|localhost:|127\.|\[::1\]:)/.freeze

  module_function

  # A stub. ca: the authorities that may have signed the server's certificate; cert, key: the client's own; files, PEM. token:
  # shown with every call. What is not given is LOSSD_CA, LOSSD_CERT, LOSSD_KEY and LOSSD_TOKEN. tls: true where there is a ca or
  # a cert. An ArgumentError names what does not fit together.
  #
  # Every gRPC library refuses answers above 4 MiB unless told otherwise; gradients are as large as their tensors.
  def connect(address, tls: false, ca: nil, cert: nil, key: nil, token: nil, timeout: 60)
    unless address.start_with?("unix:") # a Unix socket has no TLS
      ca, cert, key = ca || named("LOSSD_CA"), cert || named("LOSSD_CERT"), key || named("LOSSD_KEY")
    end
    token ||= named("LOSSD_TOKEN")
    raise ArgumentError, "cert and key go together: give both" if cert.nil? != key.nil?

    secure = tls || !ca.nil? || !cert.nil?
    if token && !secure && !LOCAL.match?(address)
      raise ArgumentError, "a token goes to #{address} by TLS only: give tls: true, or ca"
    end

    credentials = :this_channel_is_insecure
    credentials = GRPC::Core::ChannelCredentials.new(pem(:ca, ca), pem(:key, key), pem(:cert, cert)) if secure
    Caller.new(
      address, credentials, token: token, timeout: timeout, channel_args: {
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
    return ": give token (LOSSD_TOKEN), or cert and key" if reason == "NO_CREDENTIALS"
    return ": is token (LOSSD_TOKEN) what `lossd token` printed?" if reason == "UNKNOWN_TOKEN"

    case words
    when /certificate verify failed/ then ": give ca (LOSSD_CA), the authority that signed the server's certificate"
    when /wrong version number/ then ": the server has no TLS, give neither tls, ca nor cert"
    when /is not in peer certificate/ then ": the server's certificate is for another host, use a name that it has"
    when /Socket closed|reset by peer/ then ": does the server want TLS (ca, tls), or a certificate (cert and key)?"
    else ""
    end
  end
end
