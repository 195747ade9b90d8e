/* SPDX-License-Identifier: MIT */
#include "libcommon/store.h"
