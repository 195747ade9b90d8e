/* SPDX-License-Identifier: MIT */
#include "libcommon/layer.h"
