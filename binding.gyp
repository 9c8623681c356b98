{
  'target_defaults': {
    'configurations': {
      # `make -C build BUILDTYPE=Sanitize` after configure; see build.sh sanitize.
      'Sanitize': {
        'defines': ['PROTORELAY_SANITIZE'],
        'cflags': ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer'],
        'ldflags': ['-fsanitize=address,undefined'],
      },
    },
  },
  'targets': [
    {
      'target_name': 'protorelay',
      'sources': [
        'native/acceptor.cc',
        'native/addon.cc',
        'native/addon_acceptor.cc',
        'native/addon_arena.cc',
        'native/addon_host.cc',
        'native/addon_pam.cc',
        'native/addon_pure.cc',
        'native/addon_reactor.cc',
        'native/address.cc',
        'native/arena.cc',
        'native/connection.cc',
        'native/content_gather.cc',
        'native/content_scan.cc',
        'native/content_send.cc',
        'native/line_scan.cc',
        'native/listen_socket.cc',
        'native/napi_values.cc',
        'native/reactor.cc',
        'native/reactor_events.cc',
        'native/reactor_input.cc',
        'native/reactor_ops.cc',
        'native/reactor_output.cc',
        'native/registry.cc',
        'native/transport.cc',
      ],
      'defines': ['NAPI_VERSION=8'],
      'cflags!': ['-O3'],
      'cflags': ['-Wall', '-Wextra', '-Werror', '-fvisibility=hidden'],
      'cflags_cc!': ['-std=gnu++20', '-std=gnu++17', '-O3'],
      'cflags_cc': ['-std=c++17', '-fno-exceptions', '-fno-rtti', '-fvisibility-inlines-hidden'],
      'configurations': {
        'Release': { 'cflags': ['-O2'] },
        'Debug': { 'cflags': ['-O0', '-g'] },
      },
      'xcode_settings': {
        'CLANG_CXX_LANGUAGE_STANDARD': 'c++17',
        'GCC_ENABLE_CPP_EXCEPTIONS': 'NO',
        'GCC_ENABLE_CPP_RTTI': 'NO',
        'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
        'MACOSX_DEPLOYMENT_TARGET': '11.0',
      },
    },
  ],
}
